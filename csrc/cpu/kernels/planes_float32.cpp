#include "planes_kernels.h"

namespace steerlens::STEERLENS_CPU_LEVEL {

STEERLENS_INSTANTIATE_PLANES_KERNELS(float)

}  // namespace steerlens::STEERLENS_CPU_LEVEL
