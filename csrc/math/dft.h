// DFTs of 2, 3, 4, 5, 7 and 8 points, of which FFTs consist. (FFTs compute larger prime factors by other code.)
#pragma once

#include "common.h"

namespace steerlens {

SL_FN Cplx<float> swap_parts(Cplx<float> a) { return {a.im, a.re}; }
SL_FN Cplx<float> times_minus_i(Cplx<float> a) { return {a.im, -a.re}; }

// cos and sin of 2 pi k / R for k = 1 ... (R - 1) / 2, for an odd R.
template <int R, typename T>
struct OddRoots;
template <typename T>
struct OddRoots<3, T> {
  T cos[1] = {T(-0.5)}, sin[1] = {T(0.86602540378443864676)};
};
template <typename T>
struct OddRoots<5, T> {
  T cos[2] = {T(0.30901699437494742410), T(-0.80901699437494742410)};
  T sin[2] = {T(0.95105651629515357212), T(0.58778525229247312917)};
};
template <typename T>
struct OddRoots<7, T> {
  T cos[3] = {T(0.62348980185873353053), T(-0.22252093395631440429), T(-0.90096886790241912624)};
  T sin[3] = {T(0.78183148246802980871), T(0.97492791218182360702), T(0.43388373911755812048)};
};

// Replaces a_k by sum_j a_j exp(-2 pi i j k / R). R is 2, 4, 8, or odd with OddRoots<R, T>.
// `Complex` is Cplx on CUDA, and ComplexVec (cpu/planes/simd.h) on CPUs.
template <int R, template <typename> class Complex, typename T>
SL_FN void dft(Complex<T> (&a)[R]) {
  if constexpr (R == 2) {
    const Complex<T> t = a[1];
    a[1] = a[0] - t;
    a[0] = a[0] + t;
  } else if constexpr (R == 4) {
    const Complex<T> even_sum = a[0] + a[2], even_diff = a[0] - a[2];
    const Complex<T> odd_sum = a[1] + a[3], odd_diff = times_minus_i(a[1] - a[3]);
    a[0] = even_sum + odd_sum;
    a[1] = even_diff + odd_diff;
    a[2] = even_sum - odd_sum;
    a[3] = even_diff - odd_diff;
  } else if constexpr (R == 8) {
    Complex<T> e[4] = {a[0], a[2], a[4], a[6]}, o[4] = {a[1], a[3], a[5], a[7]};
    dft(e);
    dft(o);
    constexpr T kSqrtHalf = T(0.70710678118654752440);
    o[1] = {kSqrtHalf * (o[1].re + o[1].im), kSqrtHalf * (o[1].im - o[1].re)};
    o[2] = times_minus_i(o[2]);
    o[3] = {kSqrtHalf * (o[3].im - o[3].re), -kSqrtHalf * (o[3].re + o[3].im)};
    SL_UNROLL
    for (int k = 0; k < 4; ++k) {
      a[k] = e[k] + o[k];
      a[k + 4] = e[k] - o[k];
    }
  } else {  // a_j and a_(R-j) are multiplied by the same cosines and, up to the sign, sines
    constexpr int kHalf = R / 2;
    const OddRoots<R, T> roots;
    Complex<T> sum[kHalf], difference[kHalf];
    const Complex<T> first = a[0];
    SL_UNROLL
    for (int j = 0; j < kHalf; ++j) {
      sum[j] = a[j + 1] + a[R - 1 - j];
      difference[j] = a[j + 1] - a[R - 1 - j];
      a[0] = a[0] + sum[j];
    }
    SL_UNROLL
    for (int k = 1; k <= kHalf; ++k) {
      Complex<T> cos_sum = first, sin_sum = {};
      SL_UNROLL
      for (int j = 0; j < kHalf; ++j) {
        const int turn = (j + 1) * k % R;
        const bool past_half = turn > kHalf;
        const int at = (past_half ? R - turn : turn) - 1;
        const T c = roots.cos[at], s = past_half ? -roots.sin[at] : roots.sin[at];
        cos_sum = cos_sum + c * sum[j];
        sin_sum = sin_sum + s * difference[j];
      }
      a[k] = {cos_sum.re + sin_sum.im, cos_sum.im - sin_sum.re};
      a[R - k] = {cos_sum.re - sin_sum.im, cos_sum.im + sin_sum.re};
    }
  }
}

}  // namespace steerlens
