// What the kernels of split_planes and merge_planes read.
#pragma once

#include <vector>

#include "extrapolate.h"

namespace steerlens {

constexpr int64_t kMaxSimdWidth = 16;

// The largest prime factor that a side may have; prime factors are radices of the FFT.
constexpr int64_t kMaxPrime = 61;

// The number of blocks of `simd_width` rows or columns that n of them fill.
SL_INLINE constexpr int64_t blocks_of(int64_t n, int64_t simd_width) {
  return (n + simd_width - 1) / simd_width;
}

// A block of rows of the image's spectrum, and for each of them the band's row, or -1 if the band has none.
struct RowBlock {
  int64_t index;
  int64_t rows[kMaxSimdWidth];
};

// One group of bands. Its form is that of the bands' values (see Form); with kReal, merge_planes also accepts complex
// bands, of which it reads the real parts.
struct PlaneGroup {
  const float* filter;  // [K, h, w]
  float* bands_out;     // split_planes: [N, K, h, w]
  const float* bands;   // merge_planes: [N, num_stored, h, w]
  int64_t K, h, w;
  int i_power;  // multiply by i^i_power
  Form form;
  int stride;  // floats per sample of the bands
  std::vector<RowBlock> row_blocks;
  // The filter as the kernels read it, see cpu/planes/filter_blocks.h.
  const float* filter_blocks;  // [K, row blocks, w, SIMD width]
  uint8_t* zero_blocks;        // [K, row blocks]: whether all of a block is 0

  // Whether two real bands (orientations) share one complex FFT.
  SL_FN bool paired() const { return form != Form::kComplex; }
  // Whether the i-th transform is that of a real band without a partner.
  SL_FN bool unpaired(int64_t i) const { return paired() && 2 * i + 1 == K; }
  // The number of complex FFTs of a plane.
  SL_FN int64_t transforms() const { return paired() ? pairs_of(K) : K; }
  SL_FN int64_t num_stored() const { return form == Form::kPairs ? pairs_of(K) : K; }
};

struct PlaneArgs {
  int64_t count, H, W;  // planes
  std::vector<PlaneGroup> groups;
  std::vector<RowBlock> image_blocks = {};  // all rows of an image's spectrum; only on CPUs
};

struct SplitPlanesArgs {
  PlaneArgs planes;
  const float* in;
  int64_t result_bytes;
};

struct MergePlanesArgs {
  PlaneArgs planes;
  const float* residual;    // null where there is none
  int64_t residual_planes;  // plane j mod residual_planes is added to plane j
  float* out;
};

}  // namespace steerlens
