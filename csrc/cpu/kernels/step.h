// The kernels of step and step_backward, for ranges of bands.
#pragma once

#include "../../kernel_args/step.h"
#include "../levels.h"

namespace steerlens {

STEERLENS_DECLARE_KERNEL(step_bands, StepArgs)
STEERLENS_DECLARE_KERNEL(step_backward_bands, StepArgs)

}  // namespace steerlens
