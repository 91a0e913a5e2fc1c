// The search for the factor at which an image lies at a given L2 distance from its source, for one sample. The caller
// renders the image at `factor` and reports its distance, until the search has ended.
//
// A *rise* is the fraction of the way from the initial distance (0) to the target distance (1); the target may be
// below the initial distance. Positions of factors are their logarithms.
#pragma once

#include <cstdint>

namespace steerlens {

struct L2SearchLimits {
  double target, tolerance;  // distances
  double start;              // first factor to try
  double max_factor;         // largest factor to try
  double range_end;          // largest factor that can be represented
};

// Doubles only: rows of the tensor `state` of begin_l2_search and advance_l2_search.
struct L2Search {
  // What callers read; the same order as in steerlens_fast/ops/l2_search.py.
  double active;    // whether the search goes on, 1 or 0
  double factor;    // to try next; 0 if the search has ended
  double improved;  // whether the last factor tried is the best so far, 1 or 0
  // The factor closest to the target, or the smallest of those equal within the tolerance.
  double best;
  double best_l2;   // its distance
  double attained;  // whether this distance is within the tolerance, 1 or 0
  // Whether the sample moves, but would need a factor beyond range_end, 1 or 0.
  double out_of_range;

  double target, tolerance, max_factor, source_l2;
  double epsilon;             // of the factors' dtype
  double log_range_end, end;  // logarithms of range_end and of the largest factor to try
  double low, high;           // the bracket
  double low_rise, high_rise;
  // Points for predictions: rises closest to 1 first, log(factor / rise).
  double rises[3], ratios[3];
  double largest;         // |rise|
  double best_gap, idle;  // smallest gap; trials since it last shrank by more than kMinProgress
  double position;        // of the next factor

  // `epsilon` is that of the factors' dtype: above that of double, factors are rounded to float.
  static L2Search begin(const L2SearchLimits& limits, double source_l2, double epsilon);

  // Takes the distance at `factor`; not finite where the image overflowed. Does nothing if the search has ended.
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
