// Arguments that the kernels for morphs of whole planes have in common.
#pragma once

#include "planes.h"

namespace steerlens {

// Which coordinates of the bands move.
enum class Edit : int { kPhase = 0, kAmplitude = 1, kJoint = 2 };

template <typename T>
struct MorphArgs {
  // Analysis of the image: the bands that move (complex), then the residual (real), which does not move.
  PlaneArgs<T> analysis;
  PlaneArgs<T> synthesis;  // Synthesis of frames: the bands that move (Form::kReal or kComplex)
  // Analysis of the gradient: the bands that move.
  std::vector<PlaneGroup<T>> gradient_groups;
  Edit edit;
  Rule rule;
  T eps, floor;  // options of the step, see step.h
  T low, high;   // frames are clipped to these limits
  int64_t frames;
  const T *images, *gradients;
  const T *phase_factors, *amplitude_factors;
  int64_t factor_stride;  // along planes: 0 if factors are [F, 1], 1 if they are [F, N]
  T* out;                 // [F, N, H, W]
  // [N, numbers], written by step_planes and read by move_planes: all values from which the frames of a plane are
  // computed (Layout in cpu/planes/motion.h).
  T* coefficients;
  // [N, bands]: squared speeds and largest |phase steps|, see write_sizes in cpu/planes/morph_step.h.
  T *squared_speeds, *phases;
  // Whether coefficients are given by their changes since the source (advance_planes in persistent morphs).
  bool anchored;

  // How many numbers are stored for a coefficient:
  // - two for the coefficient (if anchored, the source's), and one for the step of each coordinate that moves;
  // - if anchored, one for the change so far of each coordinate that moves;
  // - if not anchored, one for the amplitude if it moves by the rule "complex".
  // See Layout in cpu/planes/motion.h and cpu/planes/anchored_motion.h.
  SL_FN int64_t fields() const {
    if (anchored) return 2 + 2 * (moves_phase() + moves_amplitude());
    return 2 + moves_phase() + moves_amplitude() * (rule == Rule::kComplex ? 2 : 1);
  }
  // The number of vectors that are stored for a plane: those of its coefficients and of its residual.
  SL_FN int64_t coefficient_vectors(int64_t simd_width) const {
    int64_t vectors = synthesis.H * blocks_of(synthesis.W, simd_width);
    for (const PlaneGroup<T>& group : synthesis.groups)
      vectors += fields() * group.K * group.h * blocks_of(group.w, simd_width);
    return vectors;
  }
  // The number of bands that move.
  SL_FN int64_t bands() const {
    int64_t count = 0;
    for (const PlaneGroup<T>& group : synthesis.groups) count += group.K;
    return count;
  }
  SL_FN int64_t factor_index(int64_t frame, int64_t plane) const {
    return factor_stride ? frame * analysis.count + plane : frame;
  }
  SL_FN bool moves_phase() const { return edit != Edit::kAmplitude; }
  SL_FN bool moves_amplitude() const { return edit != Edit::kPhase; }

  // Whether a frame differs from its plane: not if its factors are 0.
  SL_FN bool moves(int64_t frame, int64_t plane) const {
    const int64_t at = factor_index(frame, plane);
    return (moves_phase() && phase_factors[at] != 0) ||
           (moves_amplitude() && amplitude_factors[at] != 0);
  }
};

}  // namespace steerlens
