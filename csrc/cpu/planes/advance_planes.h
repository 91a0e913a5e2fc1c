// advance_planes: one step along a new gradient, for each sample (image). The op analyses the present image (in the
// regime "persistent", the source) and the gradient at the present image, and computes the step. The factor of the step
// is given, or the op searches for the factor at which the result has the requested distance from the source.
//
// In persistent morphs, the op takes coordinates: how much the phase and the log amplitude of each coefficient have
// changed since the source. It moves the coefficients in these coordinates (math/anchor.h), and updates the
// coordinates. Other morphs move coefficients as in morph_planes_to_l2.h. (See there how threads share a sample.)
#pragma once

#include "anchored_motion.h"
#include "morph_planes_to_l2.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

template <typename T>
double l2_between(const T* a, const T* b, int64_t size) {
  constexpr int64_t kPieceSize = 64 * kSimdWidth<T>;  // sums of more squares would be less accurate
  double total = 0;
  for (int64_t first = 0; first < size; first += kPieceSize) {
    Vec<T> sums = {};
    const int64_t end = std::min(first + kPieceSize, size);
    for (int64_t at = first; at < end; at += kSimdWidth<T>) {
      const Vec<T> difference = load_vec(a + at, end - at) - load_vec(b + at, end - at);
      sums += difference * difference;
    }
    total += sum_of<T>(sums, kSimdWidth<T>);
  }
  return std::sqrt(total);
}

template <typename T>
struct AdvanceSample {
  const AdvanceArgs<T>& args;
  const MorphParts<T>& parts;
  const AnchorKernels<T>& anchor;
  const MorphToL2<T>& to_l2;  // computes limits and frames, with args.to_l2
  FrameValues<T> values;
  double* distances;  // [B, distances_per_sample]

  // There are up to two searches, which have a distance for each factor that they try. Two more distances are the length
  // of the step, and the distance of the result.
  static int64_t distances_per_sample(const AdvanceArgs<T>& args) {
    return 2 * args.to_l2.iterations + 2;
  }

  // How many planes of a sample are in memory at a time: all, if the factors depend on all of them, otherwise one.
  static int64_t planes_in_memory(const AdvanceArgs<T>& args) {
    const bool factors_are_known = !args.searches && std::isinf(args.to_l2.phase_cap);
    return factors_are_known ? 1 : args.to_l2.planes_per_sample;
  }

  // What one thread does for the planes of sample n that are in memory. Threads that share a sample have one Run each.
  template <typename Executor>
  struct Run {
    const AdvanceSample& of;
    int64_t n, first;  // the sample; the first of its planes that are in memory
    const SampleMemory<T>& memory;
    const Workspace<T>& workspace;
    const Executor& executor;
    int64_t measured = 0;  // distances so far
    Factors<T> drawn = {std::numeric_limits<T>::quiet_NaN(), 0};

    void draw(Factors<T> factors) {
      if (factors.phase == drawn.phase && factors.amplitude == drawn.amplitude) return;
      for (size_t i = 0; i < memory.planes.size(); ++i)
        of.to_l2.draw_plane(n, first + i, 0, factors, memory.planes[i], nullptr, of.values,
                            workspace, executor);
      drawn = factors;
    }

    // The distance between the last frame that was drawn and an image. All threads call this function. One of them
    // computes the distance. The others wait for it, so that none draws the next frame too early.
    double distance_from(const T* image) {
      double& l2 = of.distances[n * distances_per_sample(of.args) + measured++];
      executor.run(1, [&](int64_t, FftScratch<T>&) {
        l2 = l2_between(of.frame(n), image, of.args.to_l2.sample_size());
      });
      return l2;
    }

    L2Search search(const L2SearchLimits& limits, const T* image, double start_l2) {
      L2Search state = L2Search::begin(limits, start_l2, std::numeric_limits<T>::epsilon());
      for (int64_t trial = 0; trial < of.args.to_l2.iterations && state.active != 0; ++trial) {
        const T factor = static_cast<T>(state.factor);
        draw({factor, factor});
        state.advance(distance_from(image));
      }
      const T best = static_cast<T>(state.best);
      draw({best, best});
      return state;
    }
  };

  template <typename Executor>
  void sample(int64_t n, const Workspace<T>& workspace, const Executor& executor) const {
    const int64_t count = planes_in_memory(args);
    const SampleMemory<T> memory(workspace.extra, args.to_l2, parts.motion, count);
    for (int64_t first = 0; first < args.to_l2.planes_per_sample; first += count) {
      Run<Executor> run{*this, n, first, memory, workspace, executor};
      prepare(run);
      const bool out_of_range = args.searches && search(run);
      if (!args.searches) run.draw(given_factors(n));
      move_coordinates(run);
      if (first + count == args.to_l2.planes_per_sample) write_results(run, out_of_range);
    }
  }

 private:
  T* frame(int64_t n) const { return args.to_l2.morph.out + n * args.to_l2.sample_size(); }
  const T* source(int64_t n) const { return args.source + n * args.to_l2.sample_size(); }
  const T* position(int64_t n) const { return args.position + n * args.to_l2.sample_size(); }

  // Analysis and step.
  template <typename Executor>
  void prepare(const Run<Executor>& run) const {
    for (size_t i = 0; i < run.memory.planes.size(); ++i) {
      const int64_t plane = run.n * args.to_l2.planes_per_sample + run.first + i;
      const Groups<T>& groups = run.memory.planes[i];
      parts.step.analyze(plane, groups, run.workspace, run.executor);
      for_coordinates(plane, groups, run.executor, anchor.read);
      parts.step.take_steps(plane, groups, run.memory.gradient, run.workspace, run.executor);
      parts.step.write_sizes(plane, groups, run.executor);
    }
  }

  // If there are coordinates, calls body(coefficients, coordinates) for each column block of a plane's bands.
  template <typename Executor, typename Body>
  void for_coordinates(int64_t plane, const Groups<T>& groups, const Executor& executor,
                       const Body& body) const {
    for (size_t i = 0; i < args.coordinates.size(); ++i) {
      const PlaneGroup<T>& group = args.to_l2.morph.synthesis.groups[i];
      executor.run(group.K * groups[i].blocks, [&](int64_t task, FftScratch<T>&) {
        const int64_t k = task / groups[i].blocks, block = task % groups[i].blocks;
        const int64_t column = block * kSimdWidth<T>,
                      at = (plane * group.K + k) * group.h * group.w + column;
        const auto from = [&](T* t) { return t ? t + at : nullptr; };
        const Coordinates<T>& of_group = args.coordinates[i];
        body(groups[i].column_block(k, block),
             CoordinateBlock<T>{from(of_group.phase), from(of_group.log_amplitude), group.w,
                                group.w - column});
      });
    }
  }

  template <typename Executor>
  void move_coordinates(const Run<Executor>& run) const {
    for (size_t i = 0; i < run.memory.planes.size(); ++i)
      for_coordinates(run.n * args.to_l2.planes_per_sample + run.first + i, run.memory.planes[i],
                      run.executor, [&](const CoefficientSpan<T>& c, const CoordinateBlock<T>& to) {
                        anchor.write(c, run.drawn, to);
                      });
  }

  template <typename Executor>
  void write_results(Run<Executor>& run, bool out_of_range) const {
    const double l2 = run.distance_from(source(run.n));
    run.executor.run(1, [&](int64_t, FftScratch<T>&) {
      args.taken_phase_factors[run.n] = run.drawn.phase;
      args.taken_amplitude_factors[run.n] = run.drawn.amplitude;
      args.to_l2.l2[run.n] = static_cast<T>(l2);
      args.to_l2.out_of_range[run.n] = out_of_range;
    });
  }

  // The given factors, scaled down if the largest phase step would exceed the cap.
  Factors<T> given_factors(int64_t n) const {
    const T phase = args.phase_factors[n], amplitude = args.amplitude_factors[n];
    if (std::isinf(args.to_l2.phase_cap)) return {phase, amplitude};
    const T allowed = to_l2.max_factor(n) / std::fabs(phase), share = allowed < 1 ? allowed : T(1);
    return {phase * share, amplitude * share};
  }

  // Draws the frame at the distance, or as near to it as a step may go. Returns whether the distance needs a factor
  // that T cannot represent.
  template <typename Executor>
  bool search(Run<Executor>& run) const {
    const int64_t n = run.n;
    const int64_t size = args.to_l2.sample_size();
    const double target = args.to_l2.max_l2[n], tolerance = args.to_l2.tolerances[n];
    const double range_end = args.to_l2.dtype_max_factors[n];
    const double distance_now = l2_between(position(n), source(n), size);
    const L2Search result = run.search(
        {target, tolerance, start(n), to_l2.max_factor(n), range_end}, source(n), distance_now);
    // A step perpendicular to the displacement so far reaches the target distance if it has this length.
    const double perpendicular =
        std::sqrt(std::max(target * target - distance_now * distance_now, 0.0));
    const double longest = std::max(args.max_step_ratio * perpendicular, tolerance);
    const T factor = run.drawn.phase;  // the amplitude's is the same
    if (factor > 0 && run.distance_from(position(n)) > longest)
      run.search({longest, tolerance, factor / 2, factor, range_end}, position(n), 0);
    return result.out_of_range != 0;
  }

  // The first factor to try: the given factor, or else MorphToL2::first_factor.
  T start(int64_t n) const {
    using Limits = std::numeric_limits<T>;
    const T first_factor = args.starts[n];
    return first_factor > 0 ? clamped(first_factor, Limits::min(), Limits::max())
                            : to_l2.first_factor(n, args.to_l2.max_l2[n]);
  }
};

}  // namespace

template <typename T>
void run_advance(AdvanceArgs<T>& args) {
  MorphArgs<T>& morph = args.to_l2.morph;
  MorphParts<T> parts(morph);
  AnchorKernels<T> anchor = {};
  if (morph.anchored)
    for_edit(morph.moves_phase(), morph.moves_amplitude(), morph.rule,
             MakeAnchorKernels<T>{parts.motion, anchor});
  const FrameValues<T> values{morph.low, morph.high, StreamingVecWriter(0)};
  const MorphToL2<T> to_l2{args.to_l2, parts, values, values, nullptr};
  const ScratchMemory distances(args.to_l2.samples * AdvanceSample<T>::distances_per_sample(args) *
                                int64_t{sizeof(double)});
  const AdvanceSample<T> advance{args, parts, anchor, to_l2, values, distances.data<double>()};
  const auto work = [&](int64_t n, const Workspace<T>& workspace, const auto& executor) {
    advance.sample(n, workspace, executor);
  };
  for_each_item(morph.analysis, parts.ffts, work,
                {SampleMemory<T>::vectors(args.to_l2, AdvanceSample<T>::planes_in_memory(args)), 0,
                 args.to_l2.planes_per_sample});
}

}  // namespace steerlens::STEERLENS_CPU_LEVEL
