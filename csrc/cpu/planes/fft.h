// kSimdWidth complex FFTs at a time, one in each element of the vectors, by Stockham's algorithm: passes of radix 2, 3,
// 4, 5, 7, 8 or another prime up to kMaxPrime.
//
// The first pass reads, and the last pass writes, through functions of the caller. So filters, crops and transposes are
// part of a transform, and need no passes over memory of their own.
#pragma once

#include <memory>
#include <utility>

#include "../../math/dft.h"
#include "fft_table.h"
#include "simd.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// Memory of one thread for its FFTs.
template <typename T>
struct FftScratch {
  explicit FftScratch(int64_t max_size)
      : max_size(max_size),
        line(new ComplexVec<T>[2 * (max_size + kSimdWidth<T>)]),
        ping(new ComplexVec<T>[max_size]),
        pong(new ComplexVec<T>[max_size]) {}

  int64_t max_size;  // the longest transform that it has room for
  // For the caller: rows or columns that transforms read or write. There is room for two, with padding.
  std::unique_ptr<ComplexVec<T>[]> line;
  // The passes of a transform read one and write the other, alternately.
  std::unique_ptr<ComplexVec<T>[]> ping, pong;
};

// This thread's memory, kept for the next call.
template <typename T>
inline FftScratch<T>& thread_scratch(int64_t max_size) {
  thread_local FftScratch<T> scratch(0);
  if (scratch.max_size < max_size) scratch = FftScratch<T>(max_size);
  return scratch;
}

// The place of a pass in the sequence of a transform's passes.
enum class Place { kFirst, kInner, kLast, kOnly };

// The first pass has a stride of 1; the twiddles of the last one are 1.
template <int R, Place kPlace, typename T, typename Read, typename Write>
SL_FN void run_radix(const FftPass<T>& pass, const Read& read, const Write& write) {
  constexpr bool kTwiddles = kPlace == Place::kFirst || kPlace == Place::kInner;
  const int64_t count = kTwiddles ? pass.size / R : 1;
  const int64_t s = kPlace == Place::kInner || kPlace == Place::kLast ? pass.stride : 1;
  const Cplx<T>* w = pass.twiddles.data();
  for (int64_t p = 0; p < count; ++p, w += R - 1)
    for (int64_t q = 0; q < s; ++q) {
      ComplexVec<T> a[R];
      SL_UNROLL
      for (int k = 0; k < R; ++k) a[k] = read(q + s * (p + count * k));
      dft(a);
      write(q + s * R * p, a[0]);
      SL_UNROLL
      for (int k = 1; k < R; ++k) write(q + s * (R * p + k), kTwiddles ? a[k] * w[k - 1] : a[k]);
    }
}

// Any other odd prime up to kMaxPrime, with R^2 products. Such primes mostly come from coarse scales, which are small.
template <typename T, typename Read, typename Write>
SL_FN void run_prime(const FftPass<T>& pass, const Read& read, const Write& write) {
  const int64_t R = pass.radix, count = pass.size / R, s = pass.stride;
  const Cplx<T>* w = pass.twiddles.data();
  ComplexVec<T> sum[kMaxPrime / 2], difference[kMaxPrime / 2];
  for (int64_t p = 0; p < count; ++p, w += R - 1)
    for (int64_t q = 0; q < s; ++q) {
      const ComplexVec<T> first = read(q + s * p);
      ComplexVec<T> total = first;
      for (int64_t j = 1; 2 * j < R; ++j) {
        const ComplexVec<T> a = read(q + s * (p + count * j)),
                            b = read(q + s * (p + count * (R - j)));
        sum[j - 1] = a + b;
        difference[j - 1] = a - b;
        total = total + sum[j - 1];
      }
      write(q + s * R * p, total);
      for (int64_t k = 1; 2 * k < R; ++k) {
        ComplexVec<T> cos_sum = first, sin_sum = {};
        for (int64_t j = 1; 2 * j < R; ++j) {
          const Cplx<T> r = pass.roots[j * k % R];
          cos_sum = {cos_sum.re + r.re * sum[j - 1].re, cos_sum.im + r.re * sum[j - 1].im};
          sin_sum = {sin_sum.re + r.im * difference[j - 1].re,
                     sin_sum.im + r.im * difference[j - 1].im};
        }
        const ComplexVec<T> low = {cos_sum.re + sin_sum.im, cos_sum.im - sin_sum.re};
        const ComplexVec<T> high = {cos_sum.re - sin_sum.im, cos_sum.im + sin_sum.re};
        write(q + s * (R * p + k), low * w[k - 1]);
        write(q + s * (R * p + R - k), high * w[R - k - 1]);
      }
    }
}

template <Place kPlace, typename T, typename Read, typename Write>
SL_FN void run_pass(const FftPass<T>& pass, const Read& read, const Write& write) {
  switch (pass.radix) {
    case 2:
      return run_radix<2, kPlace>(pass, read, write);
    case 3:
      return run_radix<3, kPlace>(pass, read, write);
    case 4:
      return run_radix<4, kPlace>(pass, read, write);
    case 5:
      return run_radix<5, kPlace>(pass, read, write);
    case 7:
      return run_radix<7, kPlace>(pass, read, write);
    case 8:
      return run_radix<8, kPlace>(pass, read, write);
    default:
      return run_prime(pass, read, write);
  }
}

template <Place kPlace, typename T>
void run_pass_in_memory(const FftPass<T>& pass, const ComplexVec<T>* from, ComplexVec<T>* to) {
  run_pass<kPlace>(
      pass, [from](int64_t i) SL_LAMBDA { return from[i]; },
      [to](int64_t i, ComplexVec<T> value) SL_LAMBDA { to[i] = value; });
}

// write(k, sum_j read(j) exp(-2 pi i j k / size)) for every k.
template <typename T, typename Read, typename Write>
SL_FN void run_fft(const FftTable<T>& fft, FftScratch<T>& scratch, const Read& read,
                   const Write& write) {
  ComplexVec<T>* from = scratch.ping.get();
  ComplexVec<T>* to = scratch.pong.get();
  const size_t count = fft.passes.size();
  // A transform of one pass is small, so copying its data costs little. With copies, the pass is compiled only once, not
  // for each `read` and `write`.
  if (count < 2) {
    for (int64_t i = 0; i < fft.size; ++i) from[i] = read(i);
    if (count == 0) return write(0, from[0]);
    run_pass_in_memory<Place::kOnly>(fft.passes[0], from, to);
    for (int64_t i = 0; i < fft.size; ++i) write(i, to[i]);
    return;
  }
  run_pass<Place::kFirst>(fft.passes[0], read,
                          [from](int64_t i, ComplexVec<T> v) SL_LAMBDA { from[i] = v; });
  for (size_t i = 1; i + 1 < count; ++i) {
    run_pass_in_memory<Place::kInner>(fft.passes[i], from, to);
    std::swap(from, to);
  }
  run_pass<Place::kLast>(
      fft.passes[count - 1], [from](int64_t i) SL_LAMBDA { return from[i]; }, write);
}

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
