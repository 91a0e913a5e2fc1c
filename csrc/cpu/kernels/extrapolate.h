// The kernels of extrapolate and extrapolate_backward, for ranges of blocks of coefficients.
#pragma once

#include "../../kernel_args/extrapolate.h"
#include "../levels.h"

namespace steerlens {

constexpr int64_t kBlock = 512, kPairBlock = kBlock / 2;

STEERLENS_DECLARE_KERNEL(write_frames, FrameArgs)
STEERLENS_DECLARE_KERNEL(write_pairs, FrameArgs)
STEERLENS_DECLARE_KERNEL(sum_frames, FrameArgs)

}  // namespace steerlens
