// Makes the row blocks of bands. A row block is simd_width neighbouring rows of an image's spectrum.
#pragma once

#include "../kernel_args/planes.h"
#include "../math/bands.h"

namespace steerlens {

// The row blocks of a spectrum of H rows that contain rows of a band of height h. There are none if simd_width is 0.
inline std::vector<RowBlock> row_blocks(int64_t h, int64_t H, int64_t simd_width) {
  std::vector<RowBlock> out;
  if (simd_width == 0) return out;
  for (int64_t index = 0; index < blocks_of(H, simd_width); ++index) {
    RowBlock block{index, {}};
    bool any = false;
    for (int64_t lane = 0; lane < simd_width; ++lane) {
      const int64_t Y = index * simd_width + lane;
      block.rows[lane] = Y < H ? band_row(Y, h, H) : -1;
      any = any || block.rows[lane] >= 0;
    }
    if (any) out.push_back(block);
  }
  return out;
}

}  // namespace steerlens
