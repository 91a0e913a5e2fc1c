// What the kernels of morph_planes read.
#pragma once

#include "planes.h"

namespace steerlens {

// Which coordinates of the bands move.
enum class Edit : int { kPhase = 0, kAmplitude = 1, kJoint = 2 };

struct MorphArgs {
  PlaneArgs analysis;                // the bands that move, complex; last the residual, real
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

  SL_FN int64_t factor_index(int64_t frame, int64_t plane) const {
    return factor_stride ? frame * analysis.count + plane : frame;
  }
  SL_FN bool moves_phase() const { return edit != Edit::kAmplitude; }
  SL_FN bool moves_amplitude() const { return edit != Edit::kPhase; }

  // A frame whose factors are 0 is the plane itself.
  SL_FN bool moves(int64_t frame, int64_t plane) const {
    const int64_t at = factor_index(frame, plane);
    return (moves_phase() && phase_factors[at] != 0) ||
           (moves_amplitude() && amplitude_factors[at] != 0);
  }
};

}  // namespace steerlens
