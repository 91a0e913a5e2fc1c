// Pointwise kernels compute blocks of coefficients, whose intermediate results stay in the first-level cache.
#pragma once

#include "../../math/common.h"

namespace steerlens {

constexpr int64_t kBlockSize = 512;

// The number of coefficients in the block that begins at `first`, of `count` coefficients in all.
SL_FN int64_t block_size(int64_t count, int64_t first, int64_t max_size = kBlockSize) {
  return count - first < max_size ? count - first : max_size;
}

}  // namespace steerlens
