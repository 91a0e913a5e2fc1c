// The first factor that a search for a distance tries.
//
// Distances are proportional to factors only at first: when phases wrap around, distances grow ever more slowly. If
// only phases move, the distance at a factor is estimated from some of the coefficients, without drawing a frame.
#pragma once

#include <algorithm>
#include <cmath>

#include "../../math/l2_search.h"
#include "coefficients.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// One in kStride vectors of coefficients is read, but about kLeastVectors at least, and about kMostVectors at most. So
// the work takes less time than one frame.
constexpr int64_t kLeastVectors = 64, kMostVectors = 1024, kStride = 15;
constexpr int64_t kModelTrials = 12;
constexpr double kModelTolerance = 0.02;  // relative error of a distance
// The estimate aims at a distance below the target: several factors may have the target distance, and the search is to
// find the smallest. The estimate is not used
// - if FirstFactor::slope is large: distances hardly grow at this factor, and may also fall;
// - if the slope is small: distances are almost proportional to factors, so the estimate is not needed.
constexpr double kAim = 0.9, kLeastSlope = 0.3, kLargestSlope = 6;
// The share of a change of coefficients that reaches the image when most phases have wrapped around: a band whose phases
// are random has frequencies that the synthesis does not pass. Measured for photographs, digits and noise: 0.53 to 0.65.
// relative_change() is about 0 then, and 1 for small changes. Its cube interpolates well between the shares of both.
constexpr double kWrappedShare = 0.55;

// A factor, and L2SearchLimits::slope there, which is larger where distances grow less.
struct FirstFactor {
  double factor, slope;
};

// Estimates the distances of a sample of which only phases move.
template <typename T>
class PhaseModel {
 public:
  // For small factors, `speed` is the L2 change of the coefficients divided by the factor, and `share` is the share of
  // this change that reaches the image.
  PhaseModel(const MorphArgs<T>& args, const std::vector<Groups<T>>& planes, double speed,
             double share)
      : args_(args), planes_(planes), speed_(speed), share_(share) {
    int64_t vectors = 0;
    for (const PlaneGroup<T>& group : args.synthesis.groups)
      vectors += static_cast<int64_t>(planes.size()) * vectors_of<T>(group);
    const int64_t stride = std::min(kStride, vectors / kLeastVectors);
    // Odd, so that even and odd rows are read.
    stride_ = std::max(vectors / kMostVectors, stride) | 1;
  }

  // Searches for a factor at which the distance is somewhat below `limits.target`, and starts at `limits.start`. If there
  // is none, or the estimate is not used, returns `limits.start`.
  FirstFactor reach(L2SearchLimits limits) const {
    const FirstFactor start = {limits.start, 0};
    if (!(limits.target > 0 && speed_ > 0 && std::isfinite(speed_))) return start;
    limits.target *= kAim;
    limits.tolerance = kModelTolerance * limits.target;
    L2Search search = L2Search::begin(limits, 0, std::numeric_limits<T>::epsilon());
    for (int64_t trial = 0; trial < kModelTrials && search.active != 0; ++trial)
      search.advance(distance(search.factor));
    const double slope = search.slope();
    const bool used = search.attained != 0 && slope > kLeastSlope && slope < kLargestSlope;
    return used ? FirstFactor{search.best, slope} : start;
  }

 private:
  // Extrapolation uses its rule only for amplitudes.
  using E = Extrapolation<true, false, Rule::kComplex>;

  double distance(double factor) const {
    const double change = relative_change(static_cast<T>(factor));
    const double share = kWrappedShare + (share_ - kWrappedShare) * std::pow(change, 3);
    return share * speed_ * factor * change;
  }

  // The change of coefficients, divided by the change if it were proportional to the factor: 1 for small factors.
  double relative_change(T factor) const {
    double change = 0, proportional = 0;
    int64_t next = 0;  // the next vector to read, counted from the beginning of the group
    for (const Groups<T>& groups : planes_) {
      for (size_t i = 0; i < args_.synthesis.groups.size(); ++i) {
        const PlaneGroup<T>& group = args_.synthesis.groups[i];
        const CoefficientSpan<T> span = groups[i].span(0, 0, vectors_of<T>(group));
        alignas(64) T sums[2 * kSimdWidth<T>] = {};
        for (; next < span.count; next += stride_) add(span.at(next), factor, sums);
        next -= span.count;
        // The weight in MorphStep::write_sizes; constant factors cancel out.
        const double weight = static_cast<double>(group.h * group.w);
        change += weight * sum_of<T>(load_vec(sums), kSimdWidth<T>);
        proportional += weight * sum_of<T>(load_vec(sums + kSimdWidth<T>), kSimdWidth<T>);
      }
    }
    return std::sqrt(change / proportional);
  }

  // Adds the squares of the changes of kSimdWidth coefficients, then the squares of their proportional changes.
  SL_FN static void add(const T* f, T factor, T* sums) {
    SL_NO_UNROLL
    for (int64_t lane = 0; lane < kSimdWidth<T>; ++lane) {
      const Coefficient<T> p = Layout<E>::load(f + lane);
      const T sine = sincos_product(T(0.5) * factor, p.phase_step).sin,
              angle = factor * p.phase_step;
      const T square = p.base.re * p.base.re + p.base.im * p.base.im;
      sums[lane] += square * (4 * (sine * sine));
      sums[kSimdWidth<T> + lane] += square * (angle * angle);
    }
  }

  const MorphArgs<T>& args_;
  const std::vector<Groups<T>>& planes_;
  double speed_, share_;
  int64_t stride_;
};

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
