// Maps indices between the spectrum of an image and the spectrum of a band, which has the lowest h x w frequencies of
// the image. The frequencies of n points are the integers k with -n/2 < k <= n/2, in FFT order.
//
// The spectrum of an image has W columns (whole) or, for a real image, only the W/2+1 columns of frequencies that are
// not negative (half). The spectrum of a band has one of two layouts:
//   full  w columns. Column c > w/2 has the negative frequency c - w. A half spectrum lacks these frequencies; their
//         values are the conjugates of those at the opposite frequencies (-ky, -kx).
//   half  w/2+1 columns, as in the image's half spectrum.
//
// Pairs: one complex FFT can transform two real bands, as the real and imaginary part of a complex band. With the masks
// m and m' of two orientations, the inverse FFT of (m + i m') times the spectrum of a real image has the two bands as
// its real and imaginary part. For the synthesis, the spectrum of the pair is multiplied by m - i m'.
#pragma once

#include "common.h"

namespace steerlens {

// The number of bands that are stored for K orientations.
SL_FN int64_t stored_bands(int64_t K, bool paired) { return paired ? pairs_of(K) : K; }

// (first + i second) * value, the filter of a pair.
template <typename T>
SL_FN Cplx<T> pair_filter(T first, T second, Cplx<T> value) {
  return {first * value.re - second * value.im, first * value.im + second * value.re};
}

// (first - i second) * value, the filter of a pair in the synthesis.
template <typename T>
SL_FN Cplx<T> conjugate_pair_filter(T first, T second, Cplx<T> value) {
  return pair_filter(first, -second, value);
}

// i^kPower (first - i second).
template <int kPower, typename T>
SL_FN Cplx<T> conjugate_filter_times_power_of_i(T first, T second) {
  if constexpr (kPower == 0) return {first, -second};
  if constexpr (kPower == 1) return {second, first};
  if constexpr (kPower == 2) return {-first, second};
  return {-second, -first};
}

SL_FN int64_t signed_frequency(int64_t index, int64_t n) {
  return index <= n / 2 ? index : index - n;
}

// The row of frequency k in a spectrum of n rows, or -1 if there is none.
SL_FN int64_t row_of_frequency(int64_t k, int64_t n) {
  if (2 * k > n || 2 * k <= -n) return -1;
  return k < 0 ? k + n : k;
}

// The row of the image's spectrum (H rows) that has the frequency of row y of a band's spectrum (h <= H rows).
SL_FN int64_t image_row(int64_t y, int64_t h, int64_t H) {
  return row_of_frequency(signed_frequency(y, h), H);
}

// The row of the band's spectrum that has the frequency of row Y of the image's, or -1 if the band does not have it.
SL_FN int64_t band_row(int64_t Y, int64_t h, int64_t H) {
  return row_of_frequency(signed_frequency(Y, H), h);
}

// The row with the opposite frequency of row Y.
SL_FN int64_t opposite_row(int64_t Y, int64_t H) { return Y == 0 ? 0 : H - Y; }

// The number of columns whose frequency is not negative. They have the same index in the image's spectrum.
SL_FN int64_t non_negative_columns(int64_t w) { return w / 2 + 1; }

// The column of a whole spectrum (W columns) that has the frequency of column x of a band in full layout (w columns).
SL_FN int64_t image_column(int64_t x, int64_t w, int64_t W) {
  return x < non_negative_columns(w) ? x : W - w + x;
}

// The column of a band in full layout that has the frequency of column X of a whole spectrum, or -1 if there is none.
SL_FN int64_t band_column(int64_t X, int64_t w, int64_t W) {
  if (X < non_negative_columns(w)) return X;
  return X > W - w + w / 2 ? X - W + w : -1;
}

}  // namespace steerlens
