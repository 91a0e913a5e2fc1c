// Arguments of the kernels of polar_split, polar_join and their backwards: arrays of `count` numbers.
#pragma once

#include "../math/common.h"

namespace steerlens {

// Arrays that an op does not use are null.
template <typename T>
struct PolarArgs {
  int64_t count;
  const Cplx<T>* coefficients;  // or the gradient of polar_join's output
  const T *amplitude, *phase;   // or the gradients of polar_split's outputs
  Cplx<T>* out_coefficients;
  T *out_amplitude, *out_phase;
};

}  // namespace steerlens
