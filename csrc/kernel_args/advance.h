// Arguments of the kernel of advance_planes, for B samples (images). csrc/README.md has a glossary.
#pragma once

#include "morph_to_l2.h"

namespace steerlens {

// The coordinates of a group, [N, K, h, w]: delta and eta of math/anchor.h; null if they do not move.
template <typename T>
struct Coordinates {
  T *phase, *log_amplitude;
};

template <typename T>
struct AdvanceArgs {
  // Whether the op searches for the factors at which samples have given distances. If not, the factors are given.
  bool searches;
  // For one frame and one distance. `max_l2`, `tolerances` and `dtype_max_factors` are set only if `searches`.
  MorphToL2Args<T> to_l2;
  std::vector<Coordinates<T>> coordinates;     // for each group; empty unless MorphArgs::anchored
  const T *source, *position;                  // [B, channels, H, W]: source and present images
  const T* starts;                             // [B], if `searches`: first factors to try
  const T *phase_factors, *amplitude_factors;  // [B], if not `searches`
  // Let s = sqrt(r^2 - d^2). A step from distance d toward distance r is at most max(max_step_ratio * s, tolerance) long.
  // A step of length s that is perpendicular to the change so far ends at distance r.
  T max_step_ratio;
  T *taken_phase_factors, *taken_amplitude_factors;  // [B], results: the factors of the step
};

}  // namespace steerlens
