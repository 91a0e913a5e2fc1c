#include "capability.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>

#include "../compiler.h"

namespace steerlens {
namespace {

constexpr std::array<const char*, 3> kNames = {"default", "avx2", "avx512"};  // as in CpuCapability
// SIMD widths in floats, as in DEFAULT_WIDTHS and X86_LEVELS of setup.py.
constexpr std::array<int64_t, 3> kWidths = {STEERLENS_DEFAULT_SIMD_WIDTH, 8, 16};

struct Selection {
  CpuCapability capability = CpuCapability::kDefault;
  std::string invalid = {};
};

// Tests the features that the flags of each level enable (X86_LEVELS in setup.py).
CpuCapability supported_capability() {
#if defined(STEERLENS_X86_LEVELS)
  const bool avx2 = SL_CPU_SUPPORTS("avx2") && SL_CPU_SUPPORTS("fma") && SL_CPU_SUPPORTS("bmi") &&
                    SL_CPU_SUPPORTS("bmi2");
  const bool avx512 = SL_CPU_SUPPORTS("avx512f") && SL_CPU_SUPPORTS("avx512bw") &&
                      SL_CPU_SUPPORTS("avx512cd") && SL_CPU_SUPPORTS("avx512dq") &&
                      SL_CPU_SUPPORTS("avx512vl");
  if (avx2) return avx512 ? CpuCapability::kAvx512 : CpuCapability::kAvx2;
#endif
  return CpuCapability::kDefault;
}

Selection select_capability() {
  const CpuCapability supported = supported_capability();
  const char* const variable = std::getenv("STEERLENS_CPU_CAPABILITY");
  const std::string value = variable ? variable : "";
  if (value.empty()) return {supported};
  const auto name = std::find(kNames.begin(), kNames.end(), value);
  if (name == kNames.end()) return {CpuCapability::kDefault, value};
  return {std::min(supported, static_cast<CpuCapability>(name - kNames.begin()))};
}

// Selected once in a process.
const Selection& selection() {
  static const Selection selected = select_capability();
  return selected;
}

}  // namespace

CpuCapability cpu_capability() { return selection().capability; }

const char* cpu_capability_name() { return kNames[static_cast<size_t>(cpu_capability())]; }

int64_t simd_width() { return kWidths[static_cast<size_t>(cpu_capability())]; }

const char* invalid_cpu_capability() { return selection().invalid.c_str(); }

}  // namespace steerlens
