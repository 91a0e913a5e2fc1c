// The CPU level whose kernels this process uses (levels.h).
#pragma once

#include <cstdint>

namespace steerlens {

// The levels. Like torch's ATEN_CPU_CAPABILITY, the environment variable STEERLENS_CPU_CAPABILITY ("avx512", "avx2" or
// "default") limits the level. It is read once, when the level is first needed.
enum class CpuCapability { kDefault, kAvx2, kAvx512 };

// The lower of the requested level and the highest level that this CPU and the build support.
CpuCapability cpu_capability();
const char* cpu_capability_name();

// The number of floats per vector in the ops on whole planes; 0 if this level does not have these ops.
int64_t simd_width();

// The value of STEERLENS_CPU_CAPABILITY if it is invalid, else "". If it is invalid, the Python package raises an error.
const char* invalid_cpu_capability();

}  // namespace steerlens
