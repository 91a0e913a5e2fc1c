// The kernels of extrapolate and extrapolate_backward, for ranges of blocks of coefficients.
#pragma once

#include "../../kernel_args/extrapolate.h"
#include "../levels.h"
#include "blocks.h"

namespace steerlens {

// A block of write_pairs has this many coefficients of each of two bands.
constexpr int64_t kPairBlockSize = kBlockSize / 2;

STEERLENS_DECLARE_KERNEL(write_frames, FrameArgs)
STEERLENS_DECLARE_KERNEL(write_pairs, FrameArgs)
STEERLENS_DECLARE_KERNEL(sum_frames, FrameArgs)

}  // namespace steerlens
