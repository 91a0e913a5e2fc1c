#include "planes.h"

#if STEERLENS_SIMD_WIDTH
#include "../planes/merge_planes.h"
#include "../planes/morph_planes_to_l2.h"
#include "../planes/split_planes.h"
#else

#include <stdexcept>

namespace steerlens::STEERLENS_CPU_LEVEL {

namespace {
[[noreturn]] void fail_without_simd() {
  throw std::logic_error(
      "ops on whole planes must not be called at a CPU level without a SIMD width");
}
}  // namespace

void run_split(SplitPlanesArgs&) { fail_without_simd(); }
void run_merge(MergePlanesArgs&) { fail_without_simd(); }
void run_morph(MorphArgs&) { fail_without_simd(); }
void run_step(MorphArgs&) { fail_without_simd(); }
void run_move(MorphArgs&) { fail_without_simd(); }
void run_morph_to_l2(MorphToL2Args&) { fail_without_simd(); }

}  // namespace steerlens::STEERLENS_CPU_LEVEL
#endif
