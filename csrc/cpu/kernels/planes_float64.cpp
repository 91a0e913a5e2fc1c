#include "planes_kernels.h"

namespace steerlens::STEERLENS_CPU_LEVEL {

STEERLENS_INSTANTIATE_PLANES_KERNELS(double)

}  // namespace steerlens::STEERLENS_CPU_LEVEL
