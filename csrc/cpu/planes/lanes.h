// Floats that are computed side by side: as many as a vector register has. Whoever includes this says how many,
// STEERLENS_LANES, 8 or 16, and that decides for which CPU level the code is compiled.
#pragma once

#include <cstring>

#include "../../args/planes.h"
#include "../../math/common.h"
#include "../clones.h"

#if STEERLENS_LANES == 16
#define STEERLENS_LANES_BEGIN STEERLENS_V4_BEGIN
#elif STEERLENS_LANES == 8
#define STEERLENS_LANES_BEGIN STEERLENS_V3_BEGIN
#else
#error "STEERLENS_LANES must be 8 or 16"
#endif
#define STEERLENS_LANES_END STEERLENS_LEVEL_END

STEERLENS_LANES_BEGIN
namespace steerlens {
namespace {

constexpr int64_t kLanes = STEERLENS_LANES;
constexpr int64_t panels_of(int64_t n) { return steerlens::panels_of(n, kLanes); }

typedef float Lanes __attribute__((vector_size(4 * STEERLENS_LANES)));
typedef float LooseLanes __attribute__((vector_size(4 * STEERLENS_LANES), aligned(4), may_alias));

// Complex numbers, real and imaginary parts apart: products need no shuffles.
struct CplxLanes {
  Lanes re, im;
};

SL_FN CplxLanes operator+(CplxLanes a, CplxLanes b) { return {a.re + b.re, a.im + b.im}; }
SL_FN CplxLanes operator-(CplxLanes a, CplxLanes b) { return {a.re - b.re, a.im - b.im}; }
SL_FN CplxLanes operator*(CplxLanes a, CplxLanes b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
SL_FN CplxLanes operator*(CplxLanes a, Cplx<float> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
SL_FN CplxLanes swapped(CplxLanes a) { return {a.im, a.re}; }
SL_FN CplxLanes times_minus_i(CplxLanes a) { return {a.im, -a.re}; }

// The first `count` lanes of floats in memory, zeros after them; all zeros where it is not positive.
SL_FN Lanes load_lanes(const float* from, int64_t count = kLanes) {
  if (count >= kLanes) return *reinterpret_cast<const LooseLanes*>(from);
  Lanes out = {};
  if (count > 0) std::memcpy(&out, from, count * sizeof(float));
  return out;
}

// The same of twice as many: the first half of them as real parts.
SL_FN CplxLanes load_two(const float* from, int64_t count) {
  return {load_lanes(from, count), load_lanes(from + kLanes, count - kLanes)};
}

SL_FN void store_lanes(float* to, Lanes value, int64_t count = kLanes) {
  if (count >= kLanes)
    *reinterpret_cast<LooseLanes*>(to) = value;
  else if (count > 0)
    std::memcpy(to, &value, count * sizeof(float));
}

#if STEERLENS_LANES == 16
// a0 b0 a1 b1 ... of the first half, and of the last.
SL_FN Lanes zip_low(Lanes a, Lanes b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
SL_FN Lanes zip_high(Lanes a, Lanes b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                 31);
}
SL_FN Lanes evens(Lanes a, Lanes b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}
SL_FN Lanes odds(Lanes a, Lanes b) {
  return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

// Four zips of row i with row i + 8 transpose sixteen rows.
SL_FN void zip_rows(const Lanes (&from)[16], Lanes (&to)[16]) {
  for (int i = 0; i < 8; ++i) {
    to[2 * i] = zip_low(from[i], from[i + 8]);
    to[2 * i + 1] = zip_high(from[i], from[i + 8]);
  }
}
SL_FN void transpose(Lanes (&rows)[16]) {
  Lanes other[16];
  zip_rows(rows, other);
  zip_rows(other, rows);
  zip_rows(rows, other);
  zip_rows(other, rows);
}
#else
SL_FN Lanes zip_low(Lanes a, Lanes b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
SL_FN Lanes zip_high(Lanes a, Lanes b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
SL_FN Lanes evens(Lanes a, Lanes b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
}
SL_FN Lanes odds(Lanes a, Lanes b) {
  return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
}

// Within each half of a register, which is all that this level's cheap shuffles reach.
SL_FN Lanes zip_low_in_halves(Lanes a, Lanes b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13);
}
SL_FN Lanes zip_high_in_halves(Lanes a, Lanes b) {
  return __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
}

// Blocks of four by four change places, then each is transposed.
SL_FN void transpose(Lanes (&rows)[8]) {
  for (int i = 0; i < 4; ++i) {
    const Lanes a = rows[i], b = rows[i + 4];
    rows[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
    rows[i + 4] = __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  }
  for (int i = 0; i < 8; i += 4) {
    const Lanes even = zip_low_in_halves(rows[i], rows[i + 2]);
    const Lanes even_ = zip_high_in_halves(rows[i], rows[i + 2]);
    const Lanes odd = zip_low_in_halves(rows[i + 1], rows[i + 3]);
    const Lanes odd_ = zip_high_in_halves(rows[i + 1], rows[i + 3]);
    rows[i] = zip_low_in_halves(even, odd);
    rows[i + 1] = zip_high_in_halves(even, odd);
    rows[i + 2] = zip_low_in_halves(even_, odd_);
    rows[i + 3] = zip_high_in_halves(even_, odd_);
  }
}
#endif

// As they lie in a complex tensor: the first `count`.
SL_FN CplxLanes load_complex(const float* from, int64_t count) {
  const Lanes a = load_lanes(from, 2 * count), b = load_lanes(from + kLanes, 2 * count - kLanes);
  return {evens(a, b), odds(a, b)};
}

}  // namespace
}  // namespace steerlens
STEERLENS_LANES_END
