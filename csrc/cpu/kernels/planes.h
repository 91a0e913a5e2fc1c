// The kernels of the ops on whole planes (../planes). They must not be called where simd_width() is 0.
#pragma once

#include "../../kernel_args/advance.h"
#include "../levels.h"

namespace steerlens {

STEERLENS_DECLARE_PLANES_KERNEL(run_split, SplitPlanesArgs)
STEERLENS_DECLARE_PLANES_KERNEL(run_merge, MergePlanesArgs)
STEERLENS_DECLARE_PLANES_KERNEL(run_morph, MorphArgs)
STEERLENS_DECLARE_PLANES_KERNEL(run_step, MorphArgs)
STEERLENS_DECLARE_PLANES_KERNEL(run_move, MorphArgs)
STEERLENS_DECLARE_PLANES_KERNEL(run_morph_to_l2, MorphToL2Args)
STEERLENS_DECLARE_PLANES_KERNEL(run_advance, AdvanceArgs)

}  // namespace steerlens
