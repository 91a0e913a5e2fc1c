// The kernels of pair and unpair, for ranges of blocks. Blocks are numbered over all pairs of planes.
#pragma once

#include "../../kernel_args/pair.h"
#include "../levels.h"
#include "blocks.h"

namespace steerlens {

STEERLENS_DECLARE_KERNEL(pair_blocks, PairArgs)
STEERLENS_DECLARE_KERNEL(unpair_blocks, PairArgs)

}  // namespace steerlens
