// The two parts of a plane's two-dimensional FFT. A forward FFT transforms first columns, kSimdWidth at a time (a
// *column block*), then rows, kSimdWidth at a time (a *row block*). An inverse FFT transforms first rows, then columns.
// Between the two parts, the plane is an array of vectors:
//
// - after the forward columns, intermediate[block * h + y] is row y of a column block;
// - after the inverse rows, intermediate[block * padded(w) + x] is column x of a row block.
//
// The second part transposes what it reads.
#pragma once

#include "../../math/bands.h"
#include "fft.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

template <typename T>
SL_FN constexpr int64_t padded(int64_t n) {
  return blocks_of<T>(n) * kSimdWidth<T>;
}

// Transposes a row block after the forward columns: line[x] for x in [0, padded(w)).
template <typename T>
SL_FN void gather_rows(const ComplexVec<T>* from, int64_t h, int64_t w, const RowBlock& rows,
                       ComplexVec<T>* line) {
  for (int64_t block = 0; block < blocks_of<T>(w); ++block) {
    Vec<T> re[kSimdWidth<T>], im[kSimdWidth<T>];
    for (int64_t lane = 0; lane < kSimdWidth<T>; ++lane) {
      const int64_t y = rows.rows[lane];
      const ComplexVec<T> value = y < 0 ? ComplexVec<T>{} : from[block * h + y];
      re[lane] = value.re;
      im[lane] = value.im;
    }
    transpose(re);
    transpose(im);
    for (int64_t i = 0; i < kSimdWidth<T>; ++i) line[block * kSimdWidth<T> + i] = {re[i], im[i]};
  }
}

// Transposes a column block after the inverse rows, from column x0 on: line[y] for y in [0, h).
template <typename T>
SL_FN void gather_columns(const ComplexVec<T>* from, int64_t w,
                          const std::vector<RowBlock>& row_blocks, int64_t x0,
                          ComplexVec<T>* line) {
  for (size_t p = 0; p < row_blocks.size(); ++p) {
    const ComplexVec<T>* source = from + p * padded<T>(w) + x0;
    Vec<T> re[kSimdWidth<T>], im[kSimdWidth<T>];
    for (int64_t i = 0; i < kSimdWidth<T>; ++i) {
      const ComplexVec<T> value = x0 + i < w ? source[i] : ComplexVec<T>{};
      re[i] = value.re;
      im[i] = value.im;
    }
    transpose(re);
    transpose(im);
    for (int64_t lane = 0; lane < kSimdWidth<T>; ++lane)
      if (row_blocks[p].rows[lane] >= 0) line[row_blocks[p].rows[lane]] = {re[lane], im[lane]};
  }
}

// Forward FFTs of a block of complex columns: read(y) -> out[y].
template <typename T, typename Read>
void forward_columns(const FftTable<T>& fft, FftScratch<T>& scratch, const Read& read,
                     ComplexVec<T>* out) {
  run_fft(fft, scratch, read, [out](int64_t y, ComplexVec<T> value) SL_LAMBDA { out[y] = value; });
}

// The same for real columns: the column blocks 2q and 2q + 1 share one transform. read(y) has the first as its real and
// the second as its imaginary part. With Z = A + i B, and A and B Hermitian, 2 A(y) = Z(y) + conj Z(-y) and
// 2 i B(y) = Z(y) - conj Z(-y).
template <typename T, typename Read>
SL_FN void forward_real_columns(const FftTable<T>& fft, FftScratch<T>& scratch, const Read& read,
                                int64_t w, int64_t q, ComplexVec<T>* out) {
  ComplexVec<T>* line = scratch.line.get();
  ComplexVec<T>* first = out + 2 * q * fft.size;
  ComplexVec<T>* second = 2 * q + 1 < blocks_of<T>(w) ? first + fft.size : nullptr;
  forward_columns(fft, scratch, read, line);
  for (int64_t y = 0; y < fft.size; ++y) {
    const ComplexVec<T> z = line[y], mirrored = line[opposite_row(y, fft.size)];
    first[y] = {T(0.5) * (z.re + mirrored.re), T(0.5) * (z.im - mirrored.im)};
    if (second) second[y] = {T(0.5) * (z.im + mirrored.im), T(0.5) * (mirrored.re - z.re)};
  }
}

// A row block of a transform's filter: m or, if two orientations share the transform, m + i m'.
template <typename T>
struct FilterRows {
  const T *first, *second;
  bool zero;
  Cplx<T> factor;  // i^i_power

  SL_FN FilterRows(const PlaneGroup<T>& group, int64_t transform, int64_t block)
      : factor(power_of_i<T>(group.i_power)) {
    const int64_t blocks = group.row_blocks.size(), size = group.w * kSimdWidth<T>;
    const int64_t at = (group.shares_fft() ? 2 * transform : transform) * blocks + block;
    const bool two = group.shares_fft() && !group.unpaired(transform);
    first = group.filter_blocks + at * size;
    second = two ? first + blocks * size : nullptr;
    zero = group.zero_blocks[at] && (!two || group.zero_blocks[at + blocks]);
  }

  // i^i_power (m + i sign m').
  SL_FN ComplexVec<T> at(int64_t x, T sign) const {
    ComplexVec<T> f = {load_vec(first + x * kSimdWidth<T>), {}};
    if (second) f.im = sign * load_vec(second + x * kSimdWidth<T>);
    return f * factor;
  }
};

// Forward FFTs of a row block: write(x, value).
template <typename T, typename Write>
SL_FN void forward_rows(const FftTable<T>& fft, FftScratch<T>& scratch, const ComplexVec<T>* from,
                        int64_t h, const RowBlock& rows, const Write& write) {
  ComplexVec<T>* line = scratch.line.get();
  gather_rows(from, h, fft.size, rows, line);
  run_fft(fft, scratch, [line](int64_t x) SL_LAMBDA { return line[x]; }, write);
}

// Inverse FFTs of a row block, not normalised: forward FFTs, with real and imaginary parts swapped before and after.
template <typename T, typename Read>
SL_FN void inverse_rows(const FftTable<T>& fft, FftScratch<T>& scratch, const Read& read,
                        ComplexVec<T>* out) {
  run_fft(
      fft, scratch, [&](int64_t x) SL_LAMBDA { return swap_parts(read(x)); },
      [out](int64_t x, ComplexVec<T> value) SL_LAMBDA { out[x] = swap_parts(value); });
}

// Inverse FFTs of a column block: write(y, value).
template <typename T, typename Write>
SL_FN void inverse_columns(const FftTable<T>& fft, FftScratch<T>& scratch,
                           const ComplexVec<T>* from, int64_t w,
                           const std::vector<RowBlock>& row_blocks, int64_t block,
                           const Write& write) {
  ComplexVec<T>* line = scratch.line.get();
  gather_columns(from, w, row_blocks, block * kSimdWidth<T>, line);
  run_fft(
      fft, scratch, [line](int64_t y) SL_LAMBDA { return swap_parts(line[y]); },
      [&](int64_t y, ComplexVec<T> value) SL_LAMBDA { write(y, swap_parts(value)); });
}

// The same for two column blocks in one transform, real parts only: write(y, {block 2q, block 2q + 1}). The real
// part of an inverse FFT is the inverse FFT of the spectrum's Hermitian part.
template <typename T, typename Write>
SL_FN void inverse_real_columns(const FftTable<T>& fft, FftScratch<T>& scratch,
                                const ComplexVec<T>* from, int64_t w,
                                const std::vector<RowBlock>& row_blocks, int64_t q,
                                const Write& write) {
  ComplexVec<T>* a = scratch.line.get();
  ComplexVec<T>* b = a + fft.size;
  const bool two = 2 * q + 1 < blocks_of<T>(w);
  gather_columns(from, w, row_blocks, 2 * q * kSimdWidth<T>, a);
  if (two) gather_columns(from, w, row_blocks, (2 * q + 1) * kSimdWidth<T>, b);
  const auto read = [&](int64_t y) SL_LAMBDA {
    const int64_t opposite = opposite_row(y, fft.size);
    const ComplexVec<T> first = a[y], mirrored = a[opposite];
    ComplexVec<T> sum = {T(0.5) * (first.re + mirrored.re), T(0.5) * (first.im - mirrored.im)};
    if (two) {
      const ComplexVec<T> second = b[y], mirrored_2 = b[opposite];
      sum = {sum.re - T(0.5) * (second.im - mirrored_2.im),
             sum.im + T(0.5) * (second.re + mirrored_2.re)};
    }
    return swap_parts(sum);
  };
  run_fft(fft, scratch, read,
          [&](int64_t y, ComplexVec<T> value) SL_LAMBDA { write(y, swap_parts(value)); });
}

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
