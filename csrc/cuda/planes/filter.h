// The filters of a unit as its kernels apply them.
#pragma once

#include "spectra.h"

namespace steerlens {
namespace {

// The filter of the i-th transform at row y and column x. For two real bands that share a transform, it is i^i_power (m
// + i sign m'). For a real band stored by half rows, only the Hermitian part counts: the mean of the filter here and of
// the conjugate filter at the opposite frequency.
__device__ __forceinline__ Cplx<float> filter_at(const Unit& unit, int i, int y, int x,
                                                 float sign) {
  const int w = unit.w(), h = unit.h(), area = h * w, at = y * w + x;
  const Cplx<float> factor = power_of_i<float>(unit.i_power);
  const bool paired = unit.content == Content::kPair;
  const float* filter = unit.filter + int64_t{paired ? 2 * i : i} * area;
  const float first = load_one(filter + at);
  if (unit.content == Content::kComplex) return first * factor;
  if (paired) {
    const float second = 2 * i + 1 < unit.bands ? load_one(filter + area + at) : 0.0f;
    return Cplx<float>{first, sign * second} * factor;
  }
  const int opposite =
      static_cast<int>(opposite_row(y, h)) * w + static_cast<int>(opposite_row(x, w));
  return 0.5f * (first * factor + load_one(filter + opposite) * conj(factor));
}

// How the threads of a block divide the columns of kLines rows: each has kItems lines of one column. Neighbouring threads
// have neighbouring lines, as BlockFft needs.
struct ColumnItems {
  static constexpr int kThreads = kLines / kItems;  // of a column
  int x, first_line;

  __device__ ColumnItems() : x(threadIdx.x / kThreads), first_line(threadIdx.x % kThreads) {}
  __device__ int line(int m) const { return first_line + kThreads * m; }
};

}  // namespace
}  // namespace steerlens
