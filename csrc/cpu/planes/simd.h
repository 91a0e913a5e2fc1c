// Vectors of as many floats as a register of the CPU level has: STEERLENS_SIMD_WIDTH, 4, 8 or 16. Uses GNU C's vector
// extensions (README.md).
#pragma once

#include <cstring>

#include "../../kernel_args/planes.h"
#include "../../math/common.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

constexpr int64_t kSimdWidth = STEERLENS_SIMD_WIDTH;
SL_FN constexpr int64_t blocks_of(int64_t n) { return steerlens::blocks_of(n, kSimdWidth); }

typedef float FloatVec __attribute__((vector_size(4 * STEERLENS_SIMD_WIDTH)));
typedef float UnalignedFloatVec
    __attribute__((vector_size(4 * STEERLENS_SIMD_WIDTH), aligned(4), may_alias));

typedef int32_t BitsVec __attribute__((vector_size(4 * STEERLENS_SIMD_WIDTH)));

// Complex numbers with their real and imaginary parts in separate registers: products need no shuffles.
struct ComplexVec {
  FloatVec re, im;
};

SL_FN ComplexVec operator+(ComplexVec a, ComplexVec b) { return {a.re + b.re, a.im + b.im}; }
SL_FN ComplexVec operator-(ComplexVec a, ComplexVec b) { return {a.re - b.re, a.im - b.im}; }
SL_FN ComplexVec operator*(ComplexVec a, ComplexVec b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
SL_FN ComplexVec operator*(ComplexVec a, Cplx<float> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
SL_FN ComplexVec swap_parts(ComplexVec a) { return {a.im, a.re}; }
SL_FN ComplexVec times_minus_i(ComplexVec a) { return {a.im, -a.re}; }

// The first `count` floats in memory, then zeros; all zeros where `count` is not positive.
SL_FN FloatVec load_vec(const float* from, int64_t count = kSimdWidth) {
  if (count >= kSimdWidth) return *reinterpret_cast<const UnalignedFloatVec*>(from);
  FloatVec out = {};
  if (count > 0) std::memcpy(&out, from, count * sizeof(float));
  return out;
}

// The same for two vectors: the first becomes the real part, the next the imaginary part.
SL_FN ComplexVec load_vec_pair(const float* from, int64_t count) {
  return {load_vec(from, count), load_vec(from + kSimdWidth, count - kSimdWidth)};
}

SL_FN void store_vec(float* to, FloatVec value, int64_t count = kSimdWidth) {
  if (count >= kSimdWidth)
    *reinterpret_cast<UnalignedFloatVec*>(to) = value;
  else if (count > 0)
    std::memcpy(to, &value, count * sizeof(float));
}

// The elements of a and b that the indices select; those of b are numbered after those of a.
template <int... kIndices>
SL_FN FloatVec select(FloatVec a, FloatVec b) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, kIndices...);
#else
  return __builtin_shuffle(a, b, BitsVec{kIndices...});
#endif
}

#if STEERLENS_SIMD_WIDTH == 16
// a0 b0 a1 b1 ... of the first halves, and of the second halves.
SL_FN FloatVec interleave_low(FloatVec a, FloatVec b) {
  return select<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(a, b);
}
SL_FN FloatVec interleave_high(FloatVec a, FloatVec b) {
  return select<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(a, b);
}
SL_FN FloatVec even_elements(FloatVec a, FloatVec b) {
  return select<0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30>(a, b);
}
SL_FN FloatVec odd_elements(FloatVec a, FloatVec b) {
  return select<1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31>(a, b);
}
#elif STEERLENS_SIMD_WIDTH == 8
SL_FN FloatVec interleave_low(FloatVec a, FloatVec b) {
  return select<0, 8, 1, 9, 2, 10, 3, 11>(a, b);
}
SL_FN FloatVec interleave_high(FloatVec a, FloatVec b) {
  return select<4, 12, 5, 13, 6, 14, 7, 15>(a, b);
}
SL_FN FloatVec even_elements(FloatVec a, FloatVec b) {
  return select<0, 2, 4, 6, 8, 10, 12, 14>(a, b);
}
SL_FN FloatVec odd_elements(FloatVec a, FloatVec b) {
  return select<1, 3, 5, 7, 9, 11, 13, 15>(a, b);
}

// Within each half of a register: AVX2's cheap shuffles do not cross the halves.
SL_FN FloatVec interleave_low_in_halves(FloatVec a, FloatVec b) {
  return select<0, 8, 1, 9, 4, 12, 5, 13>(a, b);
}
SL_FN FloatVec interleave_high_in_halves(FloatVec a, FloatVec b) {
  return select<2, 10, 3, 11, 6, 14, 7, 15>(a, b);
}

// Exchanges blocks of four by four, then transposes each of them.
SL_FN void transpose(FloatVec (&rows)[8]) {
  for (int i = 0; i < 4; ++i) {
    const FloatVec a = rows[i], b = rows[i + 4];
    rows[i] = select<0, 1, 2, 3, 8, 9, 10, 11>(a, b);
    rows[i + 4] = select<4, 5, 6, 7, 12, 13, 14, 15>(a, b);
  }
  for (int i = 0; i < 8; i += 4) {
    const FloatVec even_low = interleave_low_in_halves(rows[i], rows[i + 2]);
    const FloatVec even_high = interleave_high_in_halves(rows[i], rows[i + 2]);
    const FloatVec odd_low = interleave_low_in_halves(rows[i + 1], rows[i + 3]);
    const FloatVec odd_high = interleave_high_in_halves(rows[i + 1], rows[i + 3]);
    rows[i] = interleave_low_in_halves(even_low, odd_low);
    rows[i + 1] = interleave_high_in_halves(even_low, odd_low);
    rows[i + 2] = interleave_low_in_halves(even_high, odd_high);
    rows[i + 3] = interleave_high_in_halves(even_high, odd_high);
  }
}
#else
SL_FN FloatVec interleave_low(FloatVec a, FloatVec b) { return select<0, 4, 1, 5>(a, b); }
SL_FN FloatVec interleave_high(FloatVec a, FloatVec b) { return select<2, 6, 3, 7>(a, b); }
SL_FN FloatVec even_elements(FloatVec a, FloatVec b) { return select<0, 2, 4, 6>(a, b); }
SL_FN FloatVec odd_elements(FloatVec a, FloatVec b) { return select<1, 3, 5, 7>(a, b); }
#endif

#if STEERLENS_SIMD_WIDTH != 8
// Interleaving row i with row i + n/2 transposes n rows, if done log2(n) times.
SL_FN void interleave_rows(const FloatVec (&from)[kSimdWidth], FloatVec (&to)[kSimdWidth]) {
  constexpr int half = STEERLENS_SIMD_WIDTH / 2;
  for (int i = 0; i < half; ++i) {
    to[2 * i] = interleave_low(from[i], from[i + half]);
    to[2 * i + 1] = interleave_high(from[i], from[i + half]);
  }
}
SL_FN void transpose(FloatVec (&rows)[kSimdWidth]) {
  FloatVec other[kSimdWidth];
  interleave_rows(rows, other);
  interleave_rows(other, rows);
#if STEERLENS_SIMD_WIDTH == 16
  interleave_rows(rows, other);
  interleave_rows(other, rows);
#endif
}
#endif

// The first `count` numbers of a complex tensor's memory, then zeros.
SL_FN ComplexVec load_complex(const float* from, int64_t count) {
  const FloatVec a = load_vec(from, 2 * count),
                 b = load_vec(from + kSimdWidth, 2 * count - kSimdWidth);
  return {even_elements(a, b), odd_elements(a, b)};
}

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
