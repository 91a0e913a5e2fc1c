// The first half of a morph: split_planes of an image and of its gradient, then step.
#pragma once

#include "analysis.h"
#include "coefficients.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

template <typename T>
struct MorphStep {
  const MorphArgs<T>& args;
  const MotionKernels<T>& motion;
  const Analysis<T>& analysis;

  // Analysis and step of plane n. `memory` has room for the gradient of one group.
  template <typename Executor>
  void plane(int64_t n, const Groups<T>& groups, Vec<T>* memory, const Workspace<T>& workspace,
             const Executor& executor) const {
    analyze(n, groups, workspace, executor);
    take_steps(n, groups, memory, workspace, executor);
  }

  template <typename Executor>
  void analyze(int64_t n, const Groups<T>& groups, const Workspace<T>& workspace,
               const Executor& executor) const {
    analysis.transform(args.images + n * area(), workspace, executor);
    for (size_t i = 0; i < groups.size(); ++i)
      analysis.bands(args.analysis.groups[i], workspace, executor, groups[i]);
  }

  // The steps of the coefficients that analyze() has written.
  template <typename Executor>
  void take_steps(int64_t n, const Groups<T>& groups, Vec<T>* memory, const Workspace<T>& workspace,
                  const Executor& executor) const {
    analysis.transform(args.gradients + n * area(), workspace, executor);
    for (size_t i = 0; i < args.gradient_groups.size(); ++i) {
      const PlaneGroup<T>& group = args.gradient_groups[i];
      const GroupCoefficients<T> gradient = {memory, blocks_of<T>(group.w), group.h,
                                             gradient_fields(group)};
      analysis.bands(group, workspace, executor, gradient);
      executor.run(group.K, [&](int64_t k, FftScratch<T>&) {
        step_band(groups[i].band(k), gradient.band(k));
      });
    }
  }

  // Writes, for each band of plane n, its largest |phase step| and its squared speed: the sum of |dc/df|^2 over its
  // coefficients c, at factor f = 0, with a weight. This is an estimate of how fast the image moves, for the first factor
  // of a search (speed_share in kernel_args/morph_to_l2.h).
  template <typename Executor>
  void write_sizes(int64_t n, const Groups<T>& groups, const Executor& executor) const {
    int64_t at = n * args.bands();
    for (size_t i = 0; i < args.synthesis.groups.size(); ++i) {
      const PlaneGroup<T>& group = args.synthesis.groups[i];
      // With this weight, coefficients of the default pyramid have the energy of the image: forward FFTs are not
      // normalised, and an analytic band has twice the energy of a real one. Other pyramids have other weights.
      const T scale = T(0.5) * static_cast<T>(group.h * group.w) /
                      static_cast<T>(args.synthesis.H * args.synthesis.W);
      executor.run(group.K, [&](int64_t k, FftScratch<T>&) {
        const StepSize<T> size = motion.step_size(groups[i].band(k));
        args.squared_speeds[at + k] = scale * size.squared_speed;
        args.phases[at + k] = size.phase;
      });
      at += group.K;
    }
  }

 private:
  int64_t area() const { return args.analysis.H * args.analysis.W; }

  // Finds the largest amplitude of a band, then replaces its coefficients (MotionKernels::take_step).
  void step_band(const CoefficientSpan<T>& c, const CoefficientSpan<T>& gradient) const {
    const T largest = motion.largest_amplitude(c);
    motion.take_step(args, c, gradient, step_threshold(args.floor, largest));
  }
};

// Vectors of memory for the gradient of the largest group.
template <typename T>
inline int64_t gradient_vectors(const MorphArgs<T>& args) {
  int64_t vectors = 0;
  for (const PlaneGroup<T>& group : args.gradient_groups)
    vectors = std::max(vectors, gradient_fields(group) * vectors_of(group));
  return vectors;
}

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
