// The kernels of the ops on whole planes. float32 and float64 have a source file each, so that they are compiled in
// parallel, since each takes long.
#pragma once

#include "planes.h"

// STEERLENS_INSTANTIATE_PLANES_KERNELS must be used in the namespace of a CPU level. At levels without a SIMD width, there
// are no such kernels.
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
