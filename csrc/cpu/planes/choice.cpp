#include "choice.h"

#include <algorithm>
#include <cstdlib>

#include "../clones.h"

namespace steerlens {
namespace {

struct Choice {
  int64_t lanes = 0;
  std::string refused = {};
};

int64_t lanes_of_cpu() {
#if STEERLENS_HAS_LEVELS
  if (__builtin_cpu_supports("x86-64-v4")) return 16;
  if (__builtin_cpu_supports("x86-64-v3")) return 8;
#endif
  return 0;
}

Choice chosen() {
  const char* const given = std::getenv("STEERLENS_LANES");
  const std::string asked = given ? given : "";
  if (asked.empty()) return {lanes_of_cpu()};
  if (asked != "0" && asked != "8" && asked != "16") return {0, asked};
  return {std::min<int64_t>(std::stoi(asked), lanes_of_cpu())};
}

// One answer for a process: ops are registered, and filters laid out, for it.
const Choice& choice() {
  static const Choice made = chosen();
  return made;
}

}  // namespace

int64_t plane_lanes() { return choice().lanes; }

const std::string& refused_lanes() { return choice().refused; }

}  // namespace steerlens
