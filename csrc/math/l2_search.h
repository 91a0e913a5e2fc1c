// Searches for the factor at which an image has a given L2 distance (the target) from its source. In a loop, the caller
// renders the image at `factor` and passes its distance to advance(), until the search has ended.
//
// Terms: the *position* of a factor is its logarithm. The *rise* of a distance is (distance - initial distance) /
// (target - initial distance): it is 0 at the initial distance and 1 at the target. The target may be below the initial
// distance.
#pragma once

#include <cstdint>

namespace steerlens {

struct L2SearchLimits {
  double target, tolerance;  // distances
  double start;              // first factor to try
  double max_factor;         // largest factor to try
  double range_end;          // largest factor that can be represented
};

// The state of one search. All fields are doubles, since it is a row of the tensor `state` of the ops begin_l2_search
// and advance_l2_search.
struct L2Search {
  // Results, in the same order as in steerlens_fast/ops/l2_search.py.
  double active;    // whether the search continues, 1 or 0
  double factor;    // the factor to try next; 0 if the search has ended
  double improved;  // whether the last factor tried is the best so far, 1 or 0
  // The factor whose distance is closest to the target. Of factors that are equally close (within the tolerance), the
  // smallest.
  double best;
  double best_l2;   // the distance at `best`
  double attained;  // whether best_l2 is within the tolerance of the target, 1 or 0
  // Whether the sample moves, but would need a factor beyond range_end, 1 or 0.
  double out_of_range;

  double target, tolerance, max_factor, source_l2;
  double epsilon;             // of the factors' dtype
  double log_range_end, end;  // positions of range_end and of the largest factor to try
  double low, high;           // the bracket: positions with a rise below 1, and of at least 1
  double low_rise, high_rise;
  // The three points from which the next position is predicted: rises, the closest to 1 first, and log(factor / rise).
  double rises[3], ratios[3];
  double largest;   // the largest |rise|
  double best_gap;  // the smallest gap, |log rise|
  double idle;      // trials since best_gap last shrank by more than kMinProgress
  double position;  // of `factor`

  // `epsilon` is that of the factors' dtype. If it is larger than that of double, factors are rounded to float.
  static L2Search begin(const L2SearchLimits& limits, double source_l2, double epsilon);

  // Continues with the distance at `factor`, which is not finite if the image has overflowed. Does nothing if the search
  // has ended.
  void advance(double l2);

 private:
  void update_best(double l2);
  void update_bracket(double rise);
  void update_progress(double rise);
  void add_point(double rise);
  void update_results();
  bool is_active() const;
  bool is_bracketed() const;
  bool has_moved() const;
  double next_position(bool slow) const;
  double predicted() const;
  double inside_bracket(double x, bool inside) const;
  double beyond_low(double x) const;
  double below_high(double x, bool inside) const;
  double room() const;
  double as_represented(double value) const;
};

constexpr int64_t kL2SearchFields = sizeof(L2Search) / sizeof(double);

}  // namespace steerlens
