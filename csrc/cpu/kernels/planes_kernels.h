// The kernels of the ops on whole planes. Each type of numbers has a source file of its own, so that both
// are compiled in parallel: this takes long.
#pragma once

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

// To be placed in the namespace of the level.
#define STEERLENS_INSTANTIATE_PLANES_KERNELS(T)     \
  template void run_split(SplitPlanesArgs<T>&);     \
  template void run_merge(MergePlanesArgs<T>&);     \
  template void run_morph(MorphArgs<T>&);           \
  template void run_step(MorphArgs<T>&);            \
  template void run_move(MorphArgs<T>&);            \
  template void run_morph_to_l2(MorphToL2Args<T>&); \
  template void run_advance(AdvanceArgs<T>&);
