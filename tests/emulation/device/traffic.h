// Functions of traffic.cpp that the scheduler calls.
#pragma once

#include <cstddef>

namespace emulation::traffic {

void begin_launch(const void* kernel);
void end_cluster();

}  // namespace emulation::traffic
