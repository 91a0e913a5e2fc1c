// Counts what kernels move to and from global memory: see traffic.cpp.
#pragma once

#include <cstddef>

namespace emulation::traffic {

void begin_launch(const void* kernel);
void end_block();

}  // namespace emulation::traffic
