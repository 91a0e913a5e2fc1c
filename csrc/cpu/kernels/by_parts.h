// Loads and stores of complex numbers by real and imaginary part: GCC does not vectorise copies of whole
// structs.
#pragma once

#include "../../math/common.h"

namespace steerlens {

template <typename T>
SL_FN Cplx<T> load_parts(const Cplx<T>& z) {
  return {z.re, z.im};
}
SL_FN float load_parts(float x) { return x; }
SL_FN double load_parts(double x) { return x; }

template <typename T>
SL_FN void store_parts(Cplx<T> value, Cplx<T>& to) {
  to.re = value.re;
  to.im = value.im;
}
// In a real tensor, only the real part is stored.
template <typename T>
SL_FN void store_parts(Cplx<T> value, T& to) {
  to = value.re;
}

}  // namespace steerlens
