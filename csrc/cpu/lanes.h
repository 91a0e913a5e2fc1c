// Sixteen floats that are computed side by side.
#pragma once

#include <cstring>

#include "../math/common.h"
#include "clones.h"

STEERLENS_LANES_BEGIN
namespace steerlens {
namespace {

typedef float Lanes __attribute__((vector_size(64)));
typedef float LooseLanes __attribute__((vector_size(64), aligned(4), may_alias));

// Sixteen complex numbers, real and imaginary parts apart: products need no shuffles.
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

// The first `count` of sixteen floats in memory, zeros after them; all zeros where it is not positive.
SL_FN Lanes load_lanes(const float* from, int64_t count = 16) {
  if (count >= 16) return *reinterpret_cast<const LooseLanes*>(from);
  Lanes out = {};
  if (count > 0) std::memcpy(&out, from, count * sizeof(float));
  return out;
}

SL_FN void store_lanes(float* to, Lanes value, int64_t count = 16) {
  if (count >= 16)
    *reinterpret_cast<LooseLanes*>(to) = value;
  else if (count > 0)
    std::memcpy(to, &value, count * sizeof(float));
}

// a0 b0 a1 b1 ... of the first, and of the last eight.
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

// As they lie in a complex tensor: the first `count` of sixteen.
SL_FN CplxLanes load_complex(const float* from, int64_t count) {
  const Lanes a = load_lanes(from, 2 * count), b = load_lanes(from + 16, 2 * count - 16);
  return {evens(a, b), odds(a, b)};
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

}  // namespace
}  // namespace steerlens
STEERLENS_LANES_END
