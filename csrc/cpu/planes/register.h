// Registers the ops of one CPU level; for v3.cpp and v4.cpp alone.
#include "choice.h"
#include "merge_planes.h"
#include "morph_planes.h"
#include "split_planes.h"

namespace steerlens {

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CPU, m) {
  if (plane_lanes() != kLanes) return;
  m.impl("split_planes", TORCH_BOX(&split_planes));
  m.impl("merge_planes", TORCH_BOX(&merge_planes));
  m.impl("morph_planes", TORCH_BOX(&morph_planes));
}

}  // namespace steerlens
