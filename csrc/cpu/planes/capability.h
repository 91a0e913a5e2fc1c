// Which version of split_planes, merge_planes and morph_planes this process uses.
#pragma once

#include <cstdint>
#include <string>

namespace steerlens {

// Like torch's ATEN_CPU_CAPABILITY. The environment variable STEERLENS_CPU_CAPABILITY limits it ("avx512",
// "avx2" or "default"); it is read once, when the library is loaded.
enum class CpuCapability { kDefault, kAvx2, kAvx512 };

// The lower of the supported (by CPU and compiler) and the requested level.
CpuCapability cpu_capability();
const char* cpu_capability_name();

// Floats that the ops on whole planes compute side by side: 16 (AVX-512, x86-64-v4), 8 (AVX2, x86-64-v3), or 0
// where these ops do not exist.
int64_t simd_width();

// The value of STEERLENS_CPU_CAPABILITY if it is invalid, else empty. Importing the package then fails.
const std::string& invalid_cpu_capability();

}  // namespace steerlens
