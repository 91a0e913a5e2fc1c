// Searches for the factor at which an image has a given L2 distance (the target) from its source. In a loop, the caller
// renders the image at `factor` and passes its distance to advance(), until the search has ended.
//
// The search has two coordinates. The *position* of a factor is its logarithm. The *rise* of a distance is 0 at factor
// 0 and 1 at the target: (distance - distance at factor 0) / (target - distance at factor 0). (The distance at factor 0
// is not 0 if earlier steps have changed the image.)
#pragma once

#include <cstdint>

namespace steerlens {

struct L2SearchLimits {
  double target, tolerance;  // distances
  double start;              // first factor to try
  double max_factor;         // largest factor to try
  double range_end;          // largest factor that can be represented
  // Estimate of d log(factor / rise) / d rise at the target, which predicts the second factor. 0 if rises are
  // proportional to factors.
  double slope = 0;
};

// The state of one search. All fields are doubles (1 or 0 for truth values), since the state is a row of the tensor
// `state` of the ops begin_l2_search and advance_l2_search.
struct L2Search {
  // Results, in the same order as in steerlens_fast/ops/l2_search.py.
  double active;    // whether the search continues
  double factor;    // the factor to try next; 0 if the search has ended
  double improved;  // whether the last factor tried is the best so far
  // The factor with the smallest error |distance - target|. Errors above the tolerance count as equal if they differ by
  // less than the tolerance: then the smaller factor is better.
  double best;
  double best_l2;       // the distance at `best`
  double attained;      // whether best_l2 is within the tolerance of the target
  double out_of_range;  // whether the image changes, but no factor up to range_end suffices

  double target, tolerance, max_factor;
  double source_l2;           // the distance at factor 0
  double epsilon;             // difference between 1 and the next number in the factors' dtype
  double log_range_end, end;  // positions of range_end and of the largest factor to try
  // The bracket: the rise is below 1 at position `low`, and at least 1 at `high`. They are infinite until found.
  double low, high;
  double low_rise, high_rise;
  // The three trials closest to the target, from which the next position is predicted: rises, and log(factor / rise).
  double rises[3], log_ratios[3];
  double largest;      // the largest |rise|
  double best_gap;     // the smallest gap, |log rise|
  double idle;         // trials since best_gap last shrank by more than kMinProgress
  double first_slope;  // L2SearchLimits::slope
  double position;     // position of `factor`

  // If `epsilon` is larger than that of double, factors are rounded to float.
  static L2Search begin(const L2SearchLimits& limits, double source_l2, double epsilon);

  // d log(factor / rise) / d rise between the two trials closest to the target; first_slope before the second trial.
  double slope() const;

  // Continues with the distance at `factor`, unless the search has ended. If the image has overflowed, the distance is
  // not finite.
  void advance(double l2);

 private:
  void update_best(double l2);
  void update_bracket(double rise);
  void update_progress(double rise);
  void add_trial(double rise);
  void update_results();
  bool is_active() const;
  bool is_bracketed() const;
  bool has_moved() const;
  double next_position(bool slow) const;
  double predicted() const;
  double inside_bracket(double x, bool useful) const;
  double beyond_low(double x) const;
  double below_high(double x, bool useful) const;
  double room() const;
  double as_represented(double value) const;
};

constexpr int64_t kL2SearchFields = sizeof(L2Search) / sizeof(double);

}  // namespace steerlens
