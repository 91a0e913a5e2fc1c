// What the kernel of advance_planes reads: one step of B samples of some planes each.
#pragma once

#include "morph_to_l2.h"

namespace steerlens {

// The coordinates of one group, [N, K, h, w]; null if they do not move.
template <typename T>
struct Coordinates {
  T *phase, *log_amplitude;
};

template <typename T>
struct AdvanceArgs {
  // With one frame, and with one distance if `searches`; `range_ends`, `tolerances` and `max_l2` are null otherwise.
  MorphToL2Args<T> to_l2;
  bool searches;
  std::vector<Coordinates<T>> coordinates;     // of each group; none: the planes themselves move
  const T *source, *position;                  // [B, channels, H, W]
  const T* starts;                             // [B], first factors to try
  const T *phase_factors, *amplitude_factors;  // [B], unless `searches`
  T max_step_ratio;
  T *moved_phases, *moved_amplitudes;  // [B], results: factors of the step

  bool anchored() const { return !coordinates.empty(); }
};

}  // namespace steerlens
