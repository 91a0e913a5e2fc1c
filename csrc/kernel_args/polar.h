// Arguments of the kernels of polar_split, polar_join and their backwards: arrays of `count` numbers.
#pragma once

#include "../math/common.h"

namespace steerlens {

// Arrays that an op does not use are null. In polar_split_backward, `amplitude` and `phase` are the gradients with
// respect to amplitude and phase. In polar_join_backward, `coefficients` is the gradient with respect to coefficients.
template <typename T>
struct PolarArgs {
  int64_t count;
  const Cplx<T>* coefficients;
  const T *amplitude, *phase;
  Cplx<T>* out_coefficients;
  T *out_amplitude, *out_phase;
};

}  // namespace steerlens
