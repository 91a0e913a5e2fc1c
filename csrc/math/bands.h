// Index maps between an image's spectrum and the block of low frequencies that a band of h x w
// samples holds. Frequencies are signed integers k with -n/2 < k <= n/2.
//
// The image's spectrum is a half spectrum [H, W/2+1] of a real image, or the whole [H, W] of a
// complex one. A band's spectrum is stored in one of two layouts, for a complex image always in the full one:
//   full  w columns; column c > w/2 holds the negative frequency c - w, which a half spectrum
//         stores as the conjugate at (-ky, -kx): a reflected (Hermitian) read;
//   half  w/2+1 columns, all of them read directly.
// Real bands may be stored in pairs, orientations 2q and 2q+1 as the real and imaginary parts of one
// complex band. Multiplying a real image's spectrum by m + i m', where m and m' are the masks of the two
// orientations, gives a spectrum whose inverse FFT has one band as its real and the other as its imaginary part.
// The synthesis multiplies by the conjugate, m - i m'; the image is the real part of the inverse FFT of the sum
// over all bands.
#pragma once

#include "common.h"

namespace steerlens {

// The number of bands that are stored for K orientations.
SL_FN int64_t stored_bands(int64_t K, bool paired) { return paired ? pairs_of(K) : K; }

// (first + i second) * value: the filter of a pair of real bands, applied to one value of the spectrum.
template <typename T>
SL_FN Cplx<T> pair_filter(T first, T second, Cplx<T> value) {
  return {first * value.re - second * value.im, first * value.im + second * value.re};
}

// (first - i second) * value: the conjugate filter.
template <typename T>
SL_FN Cplx<T> conjugate_pair_filter(T first, T second, Cplx<T> value) {
  return pair_filter(first, -second, value);
}

// i^kPower (first - i second): the conjugate filter times a power of i.
template <int kPower, typename T>
SL_FN Cplx<T> conjugate_filter_times_i(T first, T second) {
  if constexpr (kPower == 0) return {first, -second};
  if constexpr (kPower == 1) return {second, first};
  if constexpr (kPower == 2) return {-first, second};
  return {-second, -first};
}

SL_FN int64_t signed_frequency(int64_t index, int64_t n) {
  return index <= n / 2 ? index : index - n;
}

// The row that holds frequency k in a spectrum of n rows, or -1 where it has none.
SL_FN int64_t row_of_frequency(int64_t k, int64_t n) {
  if (2 * k > n || 2 * k <= -n) return -1;
  return k < 0 ? k + n : k;
}

// The row of the image's spectrum [H rows] that band row y [h rows, h <= H] reads.
SL_FN int64_t image_row(int64_t y, int64_t h, int64_t H) {
  return row_of_frequency(signed_frequency(y, h), H);
}

// The row of the band's spectrum that holds image row Y, or -1 where the band was cropped.
SL_FN int64_t band_row(int64_t Y, int64_t h, int64_t H) {
  return row_of_frequency(signed_frequency(Y, H), h);
}

// The row that holds the negative of row Y's frequency.
SL_FN int64_t opposite_row(int64_t Y, int64_t H) { return Y == 0 ? 0 : H - Y; }

// The number of leading columns of a band that are read directly. In the full layout, the other columns hold the
// negative frequencies: they are reflected in a half spectrum, and at the end of the row in a whole one.
SL_FN int64_t direct_columns(int64_t w) { return w / 2 + 1; }

// The column of a whole spectrum [W columns] that column x of a full band [w columns] reads.
SL_FN int64_t image_column(int64_t x, int64_t w, int64_t W) {
  return x < direct_columns(w) ? x : W - w + x;
}

// The column of a full band that holds column X of a whole spectrum, or -1 where it was cropped.
SL_FN int64_t band_column(int64_t X, int64_t w, int64_t W) {
  if (X < direct_columns(w)) return X;
  return X > W - w + w / 2 ? X - W + w : -1;
}

}  // namespace steerlens
