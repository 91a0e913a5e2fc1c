// The kernels of polar_split, polar_join and their backwards, for ranges of blocks of coefficients.
#pragma once

#include "../../kernel_args/polar.h"
#include "../levels.h"
#include "blocks.h"

namespace steerlens {

STEERLENS_DECLARE_KERNEL(split_blocks, PolarArgs)
STEERLENS_DECLARE_KERNEL(split_backward_blocks, PolarArgs)
STEERLENS_DECLARE_KERNEL(join_blocks, PolarArgs)
STEERLENS_DECLARE_KERNEL(join_backward_blocks, PolarArgs)

}  // namespace steerlens
