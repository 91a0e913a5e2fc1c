#include "capability.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "../clones.h"

namespace steerlens {
namespace {

constexpr std::array<const char*, 3> kNames = {"default", "avx2", "avx512"};  // as in CpuCapability
constexpr std::array<int64_t, 3> kWidths = {0, 8, 16};

struct Selection {
  CpuCapability capability = CpuCapability::kDefault;
  std::string invalid = {};
};

CpuCapability supported_capability() {
#if STEERLENS_HAS_LEVELS
  if (__builtin_cpu_supports("x86-64-v4")) return CpuCapability::kAvx512;
  if (__builtin_cpu_supports("x86-64-v3")) return CpuCapability::kAvx2;
#endif
  return CpuCapability::kDefault;
}

Selection select_capability() {
  const CpuCapability supported = supported_capability();
  const char* const variable = std::getenv("STEERLENS_CPU_CAPABILITY");
  const std::string value = variable ? variable : "";
  if (value.empty()) return {supported};
  const auto found = std::find(kNames.begin(), kNames.end(), value);
  if (found == kNames.end()) return {CpuCapability::kDefault, value};
  return {std::min(supported, static_cast<CpuCapability>(found - kNames.begin()))};
}

// Selected once in a process: ops are registered and filters are laid out for it.
const Selection& selection() {
  static const Selection selected = select_capability();
  return selected;
}

}  // namespace

CpuCapability cpu_capability() { return selection().capability; }

const char* cpu_capability_name() { return kNames[static_cast<size_t>(cpu_capability())]; }

int64_t simd_width() { return kWidths[static_cast<size_t>(cpu_capability())]; }

const std::string& invalid_cpu_capability() { return selection().invalid; }

}  // namespace steerlens
