// Arguments of the kernels of split_planes and merge_planes.
#pragma once

#include <vector>

#include "extrapolate.h"

namespace steerlens {

constexpr int64_t kMaxSimdWidth = 16;  // floats, at the level AVX-512

// The largest prime factor that a side may have; prime factors are radices of the FFT.
constexpr int64_t kMaxPrime = 61;

// A block of rows of an image's spectrum. rows[i] is the row of a band's spectrum with the same frequency as row i of
// the block, or -1 if the band does not have it.
struct RowBlock {
  int64_t index;
  int64_t rows[kMaxSimdWidth];
};

// A group of bands. With Form::kReal, merge_planes also accepts complex bands and reads their real parts.
template <typename T>
struct PlaneGroup {
  const T* filter;  // [K, h, w]
  T* bands_out;     // split_planes: [N, K, h, w]
  const T* bands;   // merge_planes: [N, num_stored, h, w]
  int64_t K, h, w;
  int i_power;  // multiply by i^i_power
  Form form;
  int stride;  // numbers T per coefficient of the bands: 1 (real) or 2 (complex)
  std::vector<RowBlock> row_blocks;
  // CPU only: the filter in the layout that the kernels read (cpu/planes/filter_blocks.h).
  const T* filter_blocks;  // [K, row blocks, w, SIMD width]
  uint8_t* zero_blocks;    // [K, row blocks]: whether a block contains only zeros

  // Whether two orientations, as real bands, share one complex FFT.
  SL_FN bool shares_fft() const { return form != Form::kComplex; }
  // Whether transform i is that of a real band without a partner: the last one of an odd K.
  SL_FN bool unpaired(int64_t i) const { return shares_fft() && 2 * i + 1 == K; }
  // The number of complex FFTs for one plane.
  SL_FN int64_t transforms() const { return shares_fft() ? pairs_of(K) : K; }
  SL_FN int64_t num_stored() const { return form == Form::kPairs ? pairs_of(K) : K; }
};

template <typename T>
struct PlaneArgs {
  int64_t count, H, W;  // `count` planes of H x W
  std::vector<PlaneGroup<T>> groups;
  std::vector<RowBlock> image_blocks = {};  // CPU only: all rows of an image's spectrum
};

template <typename T>
struct SplitPlanesArgs {
  PlaneArgs<T> planes;
  const T* in;
  int64_t result_bytes;  // bytes of all bands
};

template <typename T>
struct MergePlanesArgs {
  PlaneArgs<T> planes;
  const T* residual;        // [residual_planes, H, W], or null
  int64_t residual_planes;  // residual[j % residual_planes] is added to plane j
  T* out;
};

}  // namespace steerlens
