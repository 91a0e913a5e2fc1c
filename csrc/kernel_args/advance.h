// Arguments of the kernel of advance_planes, for B samples (images).
#pragma once

#include "morph_to_l2.h"

namespace steerlens {

// The coordinates of a group (math/anchor.h), [N, K, h, w]; null if they do not move.
template <typename T>
struct Coordinates {
  T *phase, *log_amplitude;
};

template <typename T>
struct AdvanceArgs {
  // Has one frame. If `searches`, it has one distance; otherwise `range_ends`, `tolerances` and `max_l2` are null.
  MorphToL2Args<T> to_l2;
  bool searches;
  std::vector<Coordinates<T>>
      coordinates;             // of each group; if empty, coefficients of the planes move
  const T *source, *position;  // [B, channels, H, W]
  const T* starts;             // [B], if `searches`: first factors to try
  const T *phase_factors, *amplitude_factors;  // [B], if not `searches`
  T max_step_ratio;
  T *moved_phases, *moved_amplitudes;  // [B], results: factors of the step

  bool anchored() const { return !coordinates.empty(); }
};

}  // namespace steerlens
