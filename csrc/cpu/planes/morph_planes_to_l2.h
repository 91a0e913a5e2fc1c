// morph_planes_to_l2: as morph_planes, but for frames at given L2 distances from the images. For each sample (image),
// analysis and step are computed once. Then the factors are found by a search (math/l2_search.h), which draws a frame for each
// factor that it tries. Then the other frames are drawn.
//
// The search draws its frames in the place of the result. If the last factor that it tries is the best one, the frame
// of this factor is not drawn again.
//
// If threads share a sample, each of them runs the search, with the same results. The distance of each tried factor has
// its own place in memory and is written only once, since a slow thread may read it while others are ahead.
#pragma once

#include <cmath>
#include <limits>

#include "../../kernel_args/morph_to_l2.h"
#include "../../math/l2_search.h"
#include "first_factor.h"
#include "morph_planes.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// Memory for a sample: the coefficients of its planes (all of them; in advance_planes.h, sometimes only one), sums of
// squared differences, and the gradient of one group.
template <typename T>
struct SampleMemory {
  std::vector<Groups<T>> planes;
  // Sums of squared differences: [planes, pairs of column blocks]; zero between frames.
  ComplexVec<T>* sums;
  int64_t sums_count;
  Vec<T>* gradient;  // gradient of one group

  static int64_t vectors_of_sums(const MorphToL2Args<T>& args) {
    return 2 * args.planes_per_sample * pairs_of(blocks_of<T>(args.morph.synthesis.W));
  }
  static int64_t vectors(const MorphToL2Args<T>& args, int64_t planes) {
    return planes * args.morph.coefficient_vectors(kSimdWidth<T>) + vectors_of_sums(args) +
           gradient_vectors(args.morph);
  }

  SampleMemory(Vec<T>* memory, const MorphToL2Args<T>& args, const MotionKernels<T>& motion,
               int64_t count) {
    for (int64_t c = 0; c < count; ++c) {
      planes.push_back(groups_in(memory, args.morph, motion));
      memory += args.morph.coefficient_vectors(kSimdWidth<T>);
    }
    sums = reinterpret_cast<ComplexVec<T>*>(memory);
    sums_count = vectors_of_sums(args) / 2;
    gradient = memory + 2 * sums_count;
  }
};

// Adds the residual to two vectors of a plane's frame, and writes them to all channels that the plane moves (several, if it is the luma).
template <typename T>
struct SampleWriter {
  FrameValues<T> values;
  GroupCoefficients<T> residual;
  const T *plane, *image;  // `image` and `frame` are those of the first channel
  T* frame;
  int64_t W, area, channels;
  bool adds_change;  // whether the plane's change is added to `image` (MorphToL2Args::base)
  // [pairs of column blocks], to which squared differences from the image are added; may be null.
  ComplexVec<T>* sums;

  SL_FN void operator()(int64_t block, int64_t y, ComplexVec<T> value) const {
    const int64_t at = y * W + block * kSimdWidth<T>, count = W - block * kSimdWidth<T>;
    value = value + residual.read_two_blocks(block, y);
    if (!adds_change) return write(at, count, value, load_vec_pair(image + at, count), block);
    const ComplexVec<T> change = value - load_vec_pair(plane + at, count);
    for (int64_t c = 0; c < channels; ++c) {
      const ComplexVec<T> source = load_vec_pair(image + c * area + at, count);
      write(c * area + at, count, source + change, source, block);
    }
  }

 private:
  SL_FN void write(int64_t at, int64_t count, ComplexVec<T> value, ComplexVec<T> source,
                   int64_t block) const {
    const ComplexVec<T> clipped = values.clip(value), difference = clipped - source;
    values.out.write_two(frame + at, clipped.re, clipped.im, count);
    if (!sums) return;
    ComplexVec<T>& sum = sums[block / 2];
    sum.re += difference.re * difference.re;
    sum.im += difference.im * difference.im;
  }
};

// The factor that a search has found.
template <typename T>
struct Reached {
  T factor;
  bool drawn;  // whether its frame is in the result
};

template <typename T>
struct FrameFactor {
  int64_t index;
  T factor;
};

template <typename T>
struct MorphToL2 {
  const MorphToL2Args<T>& args;
  const MorphParts<T>& parts;
  FrameValues<T> trial_values, final_values;  // clip and write frames; trials are not streamed
  double* tried_l2;                           // [B, M, iterations]

  template <typename Executor>
  void sample(int64_t n, const Workspace<T>& workspace, const Executor& executor) const {
    const SampleMemory<T> memory(workspace.extra, args, parts.motion, args.planes_per_sample);
    prepare(n, memory, workspace, executor);
    const double source_l2 = l2_of_source(n);
    std::vector<Reached<T>> reached;
    for (int64_t m = 0; m < args.distances; ++m) {
      L2Search search =
          L2Search::begin(limits(n, m, memory), source_l2, std::numeric_limits<T>::epsilon());
      for (int64_t trial = 0; trial < args.iterations && search.active != 0; ++trial) {
        const T factor = static_cast<T>(search.factor);
        const double l2 = try_factor(n, m, trial, factor, memory, workspace, executor);
        search.advance(factor == 0 ? source_l2 : l2);  // at factor 0, no distance is computed
      }
      reached.push_back({static_cast<T>(search.best), search.improved != 0});
      executor.run(1, [&](int64_t, FftScratch<T>&) { write_results(n, m, search); });
    }
    draw_frames(n, reached, memory, workspace, executor);
  }

  // An estimate of the factor that reaches the target if the motion is linear.
  T first_factor(int64_t n, T target) const {
    // The speed may underflow or overflow. The gradient's norm is then a rough replacement.
    const double change = speed(n);
    const bool known = change > 0 && std::isfinite(change);
    const double l2_per_factor = known ? args.speed_share * change : gradient_norm(n);
    const T first =
        static_cast<T>(std::min<double>(target / l2_per_factor, std::numeric_limits<T>::max()));
    return std::isfinite(first) && first > 0 ? first : T(1);
  }

  // The factor at which the largest phase change is as large as it may be.
  T max_factor(int64_t n) const {
    const int64_t bands = args.planes_per_sample * args.morph.bands();
    T largest = 0;
    for (int64_t i = 0; i < bands; ++i) largest = larger(args.morph.phases[n * bands + i], largest);
    return std::min(args.phase_cap, args.phase_limit) / largest;
  }

  // Draws plane c of sample n in a frame.
  template <typename Executor>
  void draw_plane(int64_t n, int64_t c, int64_t frame, Factors<T> factors, const Groups<T>& groups,
                  ComplexVec<T>* sums, const FrameValues<T>& values, const Workspace<T>& workspace,
                  const Executor& executor) const {
    const int64_t area = args.area(), channels = args.channels / args.planes_per_sample;
    const int64_t first = c * channels * area;
    const T* image = args.image_of(n) + first;
    T* to = args.morph.out + (frame * args.samples + n) * args.sample_size() + first;
    if (!args.morph.anchored && factors.phase == 0 && factors.amplitude == 0)
      return values.copy(image, channels * area, to, executor);
    const T* plane = args.morph.images + (n * args.planes_per_sample + c) * area;
    const bool adds_change = args.base != nullptr;
    const int64_t W = args.morph.synthesis.W;
    const SampleWriter<T> writer{values, groups.back(), plane,    image,       to,
                                 W,      area,          channels, adds_change, sums};
    parts.one_frame.frame(groups, factors, workspace, executor, writer);
  }

 private:
  // Analysis and step of all planes.
  template <typename Executor>
  void prepare(int64_t n, const SampleMemory<T>& memory, const Workspace<T>& workspace,
               const Executor& executor) const {
    executor.run(1, [&](int64_t, FftScratch<T>&) {
      for (int64_t i = 0; i < memory.sums_count; ++i) memory.sums[i] = ComplexVec<T>{};
    });
    for (int64_t c = 0; c < args.planes_per_sample; ++c) {
      const int64_t plane = n * args.planes_per_sample + c;
      parts.step.plane(plane, memory.planes[c], memory.gradient, workspace, executor);
      parts.step.write_sizes(plane, memory.planes[c], executor);
    }
  }

  L2SearchLimits limits(int64_t n, int64_t m, const SampleMemory<T>& memory) const {
    const T target = args.max_l2[m * args.samples + n];
    L2SearchLimits limits = {target, args.tolerances[m * args.samples + n], first_factor(n, target),
                             max_factor(n), args.dtype_max_factors[n]};
    if (args.morph.moves_phase() && !args.morph.moves_amplitude()) {
      const PhaseModel<T> model(args.morph, memory.planes, speed(n), args.speed_share);
      const FirstFactor first = model.reach(limits);
      limits.start = first.factor;
      limits.slope = first.slope;
    }
    return limits;
  }

  // The L2 change of the coefficients, divided by the factor, for small factors.
  double speed(int64_t n) const {
    const int64_t bands = args.planes_per_sample * args.morph.bands();
    double squared_speed = 0;
    for (int64_t i = 0; i < bands; ++i) squared_speed += args.morph.squared_speeds[n * bands + i];
    // A plane may move several channels (`base`).
    return std::sqrt(squared_speed * args.channels / args.planes_per_sample);
  }

  double gradient_norm(int64_t n) const {
    const int64_t size = args.planes_per_sample * args.area();
    const T* gradient = args.morph.gradients + n * size;
    double sum = 0;
    for (int64_t i = 0; i < size; ++i) sum += double{gradient[i]} * gradient[i];
    return std::sqrt(sum);
  }

  // The distance at factor 0: that of the clipped image from the image.
  double l2_of_source(int64_t n) const {
    const T* image = args.image_of(n);
    const int64_t size = args.sample_size();
    const auto squares = [&](int64_t at) {
      const Vec<T> value = load_vec(image + at, size - at),
                   change = final_values.clip(value) - value;
      return change * change;
    };
    Vec<T> sums = {};
    int64_t at = 0;
    for (; at + kSimdWidth<T> <= size; at += kSimdWidth<T>) sums += squares(at);
    return std::sqrt(sum_of<T>(sums, kSimdWidth<T>) + sum_of<T>(squares(at), size - at));
  }

  // Draws all planes at one factor; returns their distance from the image.
  template <typename Executor>
  double try_factor(int64_t n, int64_t m, int64_t trial, T factor, const SampleMemory<T>& memory,
                    const Workspace<T>& workspace, const Executor& executor) const {
    const int64_t f = args.morph.frames - args.distances + m;
    const int64_t pairs = memory.sums_count / args.planes_per_sample;
    for (int64_t c = 0; c < args.planes_per_sample; ++c)
      draw(n, c, {f, factor}, memory, memory.sums + c * pairs, trial_values, workspace, executor);
    double& l2 = tried_l2[(n * args.distances + m) * args.iterations + trial];
    executor.run(1, [&](int64_t, FftScratch<T>&) { l2 = take_l2(memory, pairs); });
    return l2;
  }

  // The distance that the sums give; sets them to zero.
  double take_l2(const SampleMemory<T>& memory, int64_t pairs) const {
    double total = 0;
    for (int64_t i = 0; i < memory.sums_count; ++i) {
      const int64_t count = args.morph.synthesis.W - 2 * (i % pairs) * kSimdWidth<T>;
      total +=
          sum_of<T>(memory.sums[i].re, count) + sum_of<T>(memory.sums[i].im, count - kSimdWidth<T>);
      memory.sums[i] = ComplexVec<T>{};
    }
    return std::sqrt(total);
  }

  void write_results(int64_t n, int64_t m, const L2Search& search) const {
    const int64_t at = m * args.samples + n;
    args.l2[at] = static_cast<T>(search.best_l2);
    args.attained[at] = search.attained != 0;
    args.out_of_range[at] = search.out_of_range != 0;
  }

  // Draws all frames that are not in the result yet. A search has drawn its frame if the last factor that it tried is the
  // best.
  template <typename Executor>
  void draw_frames(int64_t n, const std::vector<Reached<T>>& reached, const SampleMemory<T>& memory,
                   const Workspace<T>& workspace, const Executor& executor) const {
    const int64_t first_reached = args.morph.frames - args.distances;
    std::vector<FrameFactor<T>> missing;
    for (int64_t f = 0; f < first_reached; ++f)
      missing.push_back({f, args.shares[f] * reached[0].factor});
    for (int64_t m = 0; m < args.distances; ++m)
      if (!reached[m].drawn) missing.push_back({first_reached + m, reached[m].factor});
    executor.run(1, [&](int64_t, FftScratch<T>&) {
      const auto write = [&](int64_t f, T factor) { args.factors[f * args.samples + n] = factor; };
      for (int64_t m = 0; m < args.distances; ++m) write(first_reached + m, reached[m].factor);
      for (const FrameFactor<T>& frame : missing) write(frame.index, frame.factor);
    });
    const int64_t count = missing.size();
    executor.run_large(
        args.planes_per_sample * count, workspace,
        [&](int64_t i, const Workspace<T>& task_workspace, const auto& frame_executor) {
          const FrameFactor<T>& frame = missing[i % count];
          draw(n, i / count, frame, memory, nullptr, final_values, task_workspace, frame_executor);
        });
  }

  template <typename Executor>
  void draw(int64_t n, int64_t c, const FrameFactor<T>& frame, const SampleMemory<T>& memory,
            ComplexVec<T>* sums, const FrameValues<T>& values, const Workspace<T>& workspace,
            const Executor& executor) const {
    draw_plane(n, c, frame.index, {frame.factor, frame.factor}, memory.planes[c], sums, values,
               workspace, executor);
  }
};

}  // namespace

template <typename T>
void run_morph_to_l2(MorphToL2Args<T>& args) {
  MorphArgs<T>& morph = args.morph;
  const MorphParts<T> parts(morph);
  const FrameValues<T> trial_values{morph.low, morph.high, StreamingVecWriter(0)};
  const FrameValues<T> final_values{
      morph.low, morph.high,
      StreamingVecWriter(morph.frames * args.samples * args.sample_size() * int64_t{sizeof(T)})};
  const ScratchMemory tried_l2(args.samples * args.distances * args.iterations *
                               int64_t{sizeof(double)});
  const MorphToL2<T> to_l2{args, parts, trial_values, final_values, tried_l2.data<double>()};
  const auto work = [&](int64_t n, const Workspace<T>& workspace, const auto& executor) {
    to_l2.sample(n, workspace, executor);
  };
  for_each_item(morph.analysis, parts.ffts, work,
                {SampleMemory<T>::vectors(args, args.planes_per_sample),
                 args.planes_per_sample * morph.frames, args.planes_per_sample});
}

}  // namespace steerlens::STEERLENS_CPU_LEVEL
