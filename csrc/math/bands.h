// Index maps between a half spectrum [H, W/2+1] and the block of low frequencies that a band of
// h x w samples keeps. Frequencies are signed integers k with -n/2 < k <= n/2.
//
// A band's spectrum is stored in one of two layouts:
//   full  w columns; column c > w/2 holds the negative frequency c - w, which a half spectrum
//         stores as the conjugate at (-ky, -kx): a reflected (Hermitian) read;
//   half  w/2+1 columns, all of them read directly.
#pragma once

#include "common.h"

namespace steerlens {

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

// The row of the opposite frequency.
SL_FN int64_t opposite_row(int64_t Y, int64_t H) { return Y == 0 ? 0 : H - Y; }

// How many leading columns of a band are read directly; in the full layout the rest is reflected.
SL_FN int64_t direct_columns(int64_t w) { return w / 2 + 1; }

}  // namespace steerlens
