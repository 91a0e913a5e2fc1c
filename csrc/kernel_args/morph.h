// What the kernels of morph_planes, step_planes and move_planes read.
#pragma once

#include "planes.h"

namespace steerlens {

// Which coordinates of the bands move.
enum class Edit : int { kPhase = 0, kAmplitude = 1, kJoint = 2 };

struct MorphArgs {
  PlaneArgs analysis;                // the bands that move, complex, then the residual, real
  PlaneArgs synthesis;               // the bands that move: Form::kReal or kComplex
  std::vector<PlaneGroup> gradient;  // the same bands in the analysis of the gradient
  Edit edit;
  Rule rule;
  float eps, floor, low, high;
  int64_t frames;
  const float *images, *gradients;
  const float *phase_factors, *amplitude_factors;
  int64_t factor_stride;  // factors are [F, factor_stride ? N : 1]
  float* out;             // [F, N, H, W]
  // Written by step_planes and read by move_planes, [N, floats]: for each plane, the values that its frames are
  // computed from.
  float* coefficients;
  float *speeds, *phases;  // step_planes: [N, bands]

  // Floats per coefficient; see Layout in cpu/planes/motion.h.
  SL_FN int64_t fields() const {
    return 2 + moves_phase() + moves_amplitude() * (rule == Rule::kComplex ? 2 : 1);
  }
  // Vectors per plane: the coefficients of the groups that move, and the residual.
  SL_FN int64_t coefficient_vectors(int64_t simd_width) const {
    int64_t vectors = synthesis.H * blocks_of(synthesis.W, simd_width);
    for (const PlaneGroup& group : synthesis.groups)
      vectors += fields() * group.K * group.h * blocks_of(group.w, simd_width);
    return vectors;
  }
  // The number of bands that move.
  SL_FN int64_t bands() const {
    int64_t count = 0;
    for (const PlaneGroup& group : synthesis.groups) count += group.K;
    return count;
  }
  SL_FN int64_t factor_index(int64_t frame, int64_t plane) const {
    return factor_stride ? frame * analysis.count + plane : frame;
  }
  SL_FN bool moves_phase() const { return edit != Edit::kAmplitude; }
  SL_FN bool moves_amplitude() const { return edit != Edit::kPhase; }

  // A frame with factors of 0 is the plane itself.
  SL_FN bool moves(int64_t frame, int64_t plane) const {
    const int64_t at = factor_index(frame, plane);
    return (moves_phase() && phase_factors[at] != 0) ||
           (moves_amplitude() && amplitude_factors[at] != 0);
  }
};

}  // namespace steerlens
