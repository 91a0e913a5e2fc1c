#include "l2_search.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>

namespace steerlens {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// log 2: while all rises are below 1, the next factor is at most twice the factor that proportional growth predicts.
constexpr double kLogReach = 0.6931471805599453;
constexpr double kNoChange = 1e-6;     // an image with smaller rises does not change at all
constexpr double kMinProgress = 0.05;  // smaller decreases of the best gap count as no progress
constexpr double kMinRise = 0.05;      // an image with smaller rises may have only rounding errors
// Without a bracket, the search ends after kPatience trials without progress, or after kPatienceWithoutMotion if no rise
// was above kMinRise.
constexpr double kPatience = 10, kPatienceWithoutMotion = 3;
// Keeps the largest position below the end of the range, so that rounding cannot make a factor exceed the range.
constexpr double kRangeMargin = 1e-6;

// The smaller value, or NaN if one of them is NaN.
double min_or_nan(double a, double b) { return a < b || std::isnan(a) ? a : b; }

double or_infinite(double l2) { return std::isfinite(l2) ? l2 : kInfinity; }

// |log rise|, which is 0 at the target, and infinite for a rise of 0 or less.
double gap(double rise) { return std::fabs(std::log(std::max(rise, 0.0))); }

}  // namespace

L2Search L2Search::begin(const L2SearchLimits& limits, double source_l2, double epsilon) {
  L2Search s{};
  s.target = limits.target;
  s.tolerance = limits.tolerance;
  s.max_factor = limits.max_factor;
  s.first_slope = limits.slope;
  s.epsilon = epsilon;
  s.best_l2 = s.source_l2 = or_infinite(source_l2);
  s.log_range_end = std::log(limits.range_end) - kRangeMargin;
  s.end = min_or_nan(s.log_range_end, std::log(limits.max_factor));
  s.low = -kInfinity;
  s.high = s.high_rise = s.best_gap = kInfinity;
  std::fill_n(s.rises, 3, kInfinity);
  std::fill_n(s.log_ratios, 3, kInfinity);
  s.position = min_or_nan(std::log(limits.start), s.end);
  s.update_results();
  const double first = min_or_nan(min_or_nan(limits.start, limits.max_factor),
                                  limits.range_end * (1 - kRangeMargin));
  s.factor = s.active != 0 ? s.as_represented(first) : 0;
  return s;
}

void L2Search::advance(double l2) {
  improved = 0;
  if (active == 0) return;
  l2 = or_infinite(l2);
  const double rise = std::isfinite(l2) ? (l2 - source_l2) / (target - source_l2) : kInfinity;
  const bool slow = gap(rise) > gap(rises[0]) / 2;
  update_best(l2);
  update_bracket(rise);
  update_progress(rise);
  add_trial(rise);
  position = min_or_nan(next_position(slow), end);
  update_results();
  factor = active != 0 ? as_represented(min_or_nan(std::exp(position), max_factor)) : 0;
}

void L2Search::update_best(double l2) {
  const double miss = std::fabs(l2 - target), best_miss = std::fabs(best_l2 - target);
  const bool far = std::min(miss, best_miss) > tolerance;
  const bool tied = far && miss < best_miss + tolerance && factor < best;
  const bool better = miss < (far ? best_miss - tolerance : best_miss);
  if (!tied && !better) return;
  improved = 1;
  best = factor;
  best_l2 = l2;
}

void L2Search::update_bracket(double rise) {
  if (rise < 1) {
    low = position;
    low_rise = rise;
  } else if (rise >= 1) {
    high = position;
    high_rise = rise;
  }
}

void L2Search::update_progress(double rise) {
  largest = std::max(largest, std::fabs(rise));
  if (gap(rise) < best_gap - kMinProgress) {
    best_gap = gap(rise);
    idle = 0;
  } else {
    ++idle;
  }
}

// Keeps the three trials with the smallest gaps.
void L2Search::add_trial(double rise) {
  int at = 0;
  while (at < 3 && !(gap(rise) < gap(rises[at]))) ++at;
  if (at == 3) return;
  std::copy_backward(rises + at, rises + 2, rises + 3);
  std::copy_backward(log_ratios + at, log_ratios + 2, log_ratios + 3);
  rises[at] = rise;
  log_ratios[at] = position - std::log(std::max(rise, 0.0));
}

void L2Search::update_results() {
  attained = std::fabs(best_l2 - target) <= tolerance;
  out_of_range = attained == 0 && low >= log_range_end && largest > kNoChange;
  active = is_active();
}

// Without a bracket, the search ends if it makes no progress, for example after phases have wrapped around.
bool L2Search::is_active() const {
  const bool open = low < end && high - low > epsilon / 2;
  const double patience = has_moved() ? kPatience : kPatienceWithoutMotion;
  return target > 0 && attained == 0 && std::isfinite(source_l2) && open &&
         (is_bracketed() || idle < patience);
}

bool L2Search::is_bracketed() const { return std::isfinite(low) && std::isfinite(high); }

bool L2Search::has_moved() const { return largest > kMinRise; }

// The next position: inside the bracket or, if only one end is known, a bounded step beyond it. `slow` says that the
// last trial did not halve the smallest gap.
double L2Search::next_position(bool slow) const {
  const double x = predicted();
  const bool useful = x > low && x < high && !slow;
  if (is_bracketed()) return inside_bracket(x, useful);
  return std::isfinite(low) ? beyond_low(x) : below_high(x, useful);
}

// The position at which the rise should be 1; infinite until a trial has a positive, finite rise.
//
// log(factor / rise) is constant while the image changes in proportion to the factor, and smooth for larger factors. It
// is interpolated as a function of the rise: by a parabola for three trials, a line for two, or a line of the given
// slope for one.
double L2Search::predicted() const {
  const double slope01 = slope();
  const double slope12 = (log_ratios[2] - log_ratios[1]) / (rises[2] - rises[1]);
  const double curvature = (slope12 - slope01) / (rises[2] - rises[0]);
  const double line = log_ratios[0] + slope01 * (1 - rises[0]);
  const double parabola = line + curvature * (1 - rises[0]) * (1 - rises[1]);
  return std::isfinite(parabola) ? parabola : std::isfinite(line) ? line : log_ratios[0];
}

double L2Search::slope() const {
  const double secant = (log_ratios[1] - log_ratios[0]) / (rises[1] - rises[0]);
  return std::isfinite(secant) ? secant : first_slope;
}

// The predicted position x if it is useful. Otherwise the position of regula falsi, moved so that the bracket shrinks by
// at least a tenth.
double L2Search::inside_bracket(double x, bool useful) const {
  if (useful) return x;
  const double share = (1 - low_rise) / (high_rise - low_rise);
  return low + (high - low) * std::min(std::max(share, 0.1), 0.9);
}

double L2Search::beyond_low(double x) const {
  const bool stalled = has_moved() && idle > 0;  // then the factor is at most doubled
  const double bound = low + (stalled ? 0.0 : room()) + kLogReach;
  return x > low ? std::min(x, bound) : bound;
}

// The steps toward smaller factors grow with each trial that makes no progress.
double L2Search::below_high(double x, bool useful) const {
  const double bound = high - room() - kLogReach * std::exp2(idle);
  return useful ? std::max(x, bound) : bound;
}

// |log(largest rise)|. If rises are proportional to factors, the position must change by this to reach rise 1.
double L2Search::room() const {
  return std::fabs(std::log(std::min(std::max(largest, kNoChange), 1 / kNoChange)));
}

double L2Search::as_represented(double value) const {
  return epsilon > DBL_EPSILON ? static_cast<double>(static_cast<float>(value)) : value;
}

}  // namespace steerlens
