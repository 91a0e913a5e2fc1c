// Complex numbers and other definitions. The functions of math/ run on host and device, except for make_fft_plan and
// those of nll.h and l2_search.h.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "../compiler.h"

namespace steerlens {

// The number of blocks of `size` items that n items fill. The last one may be incomplete.
SL_FN constexpr int64_t blocks_of(int64_t n, int64_t size) { return (n + size - 1) / size; }

// The number of pairs of n items. If n is odd, the last item is a pair of its own.
SL_FN int64_t pairs_of(int64_t n) { return blocks_of(n, 2); }

// Conversion between a floating-point number and its bits.
SL_FN int32_t bits_of(float value) {
  int32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}
SL_FN int64_t bits_of(double value) {
  int64_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}
template <typename T, typename Bits>
SL_FN T from_bits(Bits bits) {
  static_assert(sizeof(T) == sizeof(Bits), "Bits must have the size of T");
  T value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

// A complex number with the memory layout of a complex tensor. std::complex is slower: its product checks for NaN.
template <typename T>
struct Cplx {
  T re, im;
};

template <typename T>
SL_FN Cplx<T> operator+(Cplx<T> a, Cplx<T> b) {
  return {a.re + b.re, a.im + b.im};
}
template <typename T>
SL_FN Cplx<T> operator-(Cplx<T> a, Cplx<T> b) {
  return {a.re - b.re, a.im - b.im};
}
template <typename T>
SL_FN Cplx<T> operator-(Cplx<T> a, T b) {
  return {a.re - b, a.im};
}
template <typename T>
SL_FN Cplx<T> operator*(T s, Cplx<T> a) {
  return {s * a.re, s * a.im};
}
template <typename T>
SL_FN Cplx<T> operator*(Cplx<T> a, Cplx<T> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
template <typename T>
SL_FN Cplx<T> conj(Cplx<T> a) {
  return {a.re, -a.im};
}

// x clamped to [low, high]; NaN stays NaN.
template <typename T>
SL_FN T clamped(T x, T low, T high) {
  return x < low ? low : (x > high ? high : x);
}

template <typename T>
SL_FN Cplx<T> selected(bool first, Cplx<T> a, Cplx<T> b) {
  return {first ? a.re : b.re, first ? a.im : b.im};
}

// i^power, for a power of 0 to 3.
template <typename T>
SL_FN Cplx<T> power_of_i(int power) {
  return {T(power == 0) - T(power == 2), T(power == 1) - T(power == 3)};
}

}  // namespace steerlens
