// The kernels of the ops on whole planes. Each type of numbers has a source file of its own, so that both are compiled in
// parallel: this takes long.
#pragma once

#include "planes.h"

// To be placed in the namespace of the level. There are no kernels at levels without a SIMD width.
#if STEERLENS_SIMD_WIDTH
#include "../planes/advance_planes.h"
#include "../planes/merge_planes.h"
#include "../planes/split_planes.h"

#define STEERLENS_INSTANTIATE_PLANES_KERNELS(T)     \
  template void run_split(SplitPlanesArgs<T>&);     \
  template void run_merge(MergePlanesArgs<T>&);     \
  template void run_morph(MorphArgs<T>&);           \
  template void run_step(MorphArgs<T>&);            \
  template void run_move(MorphArgs<T>&);            \
  template void run_morph_to_l2(MorphToL2Args<T>&); \
  template void run_advance(AdvanceArgs<T>&);
#else
#define STEERLENS_INSTANTIATE_PLANES_KERNELS(T)
#endif
