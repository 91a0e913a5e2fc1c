#include "planes.h"

#if STEERLENS_SIMD_WIDTH
#include "../planes/advance_planes.h"
#include "../planes/merge_planes.h"
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

template <typename T>
void run_split(SplitPlanesArgs<T>&) {
  fail_without_simd();
}
template <typename T>
void run_merge(MergePlanesArgs<T>&) {
  fail_without_simd();
}
template <typename T>
void run_morph(MorphArgs<T>&) {
  fail_without_simd();
}
template <typename T>
void run_step(MorphArgs<T>&) {
  fail_without_simd();
}
template <typename T>
void run_move(MorphArgs<T>&) {
  fail_without_simd();
}
template <typename T>
void run_morph_to_l2(MorphToL2Args<T>&) {
  fail_without_simd();
}
template <typename T>
void run_advance(AdvanceArgs<T>&) {
  fail_without_simd();
}

}  // namespace steerlens::STEERLENS_CPU_LEVEL
#endif

namespace steerlens::STEERLENS_CPU_LEVEL {

STEERLENS_INSTANTIATE_PLANES_KERNEL(run_split, SplitPlanesArgs)
STEERLENS_INSTANTIATE_PLANES_KERNEL(run_merge, MergePlanesArgs)
STEERLENS_INSTANTIATE_PLANES_KERNEL(run_morph, MorphArgs)
STEERLENS_INSTANTIATE_PLANES_KERNEL(run_step, MorphArgs)
STEERLENS_INSTANTIATE_PLANES_KERNEL(run_move, MorphArgs)
STEERLENS_INSTANTIATE_PLANES_KERNEL(run_morph_to_l2, MorphToL2Args)
STEERLENS_INSTANTIATE_PLANES_KERNEL(run_advance, AdvanceArgs)

}  // namespace steerlens::STEERLENS_CPU_LEVEL
