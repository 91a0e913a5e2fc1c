#include "choice.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "../clones.h"

namespace steerlens {
namespace {

const char* asked() { return std::getenv("STEERLENS_LANES"); }

int64_t lanes_of_cpu() {
#if STEERLENS_HAS_LEVELS
  if (__builtin_cpu_supports("x86-64-v4")) return 16;
  if (__builtin_cpu_supports("x86-64-v3")) return 8;
#endif
  return 0;
}

}  // namespace

bool plane_lanes_valid() {
  const std::string text = asked() ? asked() : "16";
  return text == "0" || text == "8" || text == "16";
}

// One answer for a process: filters are laid out for it.
int64_t plane_lanes() {
  static const int64_t lanes = asked() && plane_lanes_valid()
                                   ? std::min<int64_t>(std::atoi(asked()), lanes_of_cpu())
                                   : lanes_of_cpu();
  return lanes;
}

}  // namespace steerlens
