#include "planes.h"

#if STEERLENS_SIMD_WIDTH
#include "../planes/merge_planes.h"
#include "../planes/morph_planes.h"
#include "../planes/split_planes.h"
#else

#include <stdexcept>

namespace steerlens::STEERLENS_CPU_LEVEL {

void run_split(SplitPlanesArgs&) { throw std::logic_error("no SIMD width"); }
void run_merge(MergePlanesArgs&) { throw std::logic_error("no SIMD width"); }
void run_morph(MorphArgs&) { throw std::logic_error("no SIMD width"); }
void run_step(MorphArgs&) { throw std::logic_error("no SIMD width"); }
void run_move(MorphArgs&) { throw std::logic_error("no SIMD width"); }

}  // namespace steerlens::STEERLENS_CPU_LEVEL
#endif
