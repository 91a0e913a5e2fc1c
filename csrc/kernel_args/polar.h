// Arguments of the kernels of polar_split, polar_join and their backwards: arrays of `count` numbers.
#pragma once

#include "../math/common.h"

namespace steerlens {

// Arrays that an op does not use are null. The backward of polar_split takes `coefficients`, and the gradients of its
// outputs in `amplitude` and `phase`. That of polar_join takes `amplitude`, `phase`, and the gradient in `coefficients`.
template <typename T>
struct PolarArgs {
  int64_t count;
  const Cplx<T>* coefficients;
  const T *amplitude, *phase;
  Cplx<T>* out_coefficients;
  T *out_amplitude, *out_phase;
};

}  // namespace steerlens
