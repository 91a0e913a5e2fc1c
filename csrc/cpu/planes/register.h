// Registers the ops on whole planes of one SIMD width; only for avx2.cpp and avx512.cpp.
#include "capability.h"
#include "merge_planes.h"
#include "morph_planes.h"
#include "split_planes.h"

namespace steerlens {

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CPU, m) {
  if (simd_width() != kSimdWidth) return;
  m.impl("split_planes", TORCH_BOX(&split_planes));
  m.impl("merge_planes", TORCH_BOX(&merge_planes));
  m.impl("morph_planes", TORCH_BOX(&morph_planes));
}

}  // namespace steerlens
