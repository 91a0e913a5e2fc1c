// Which of the versions of split_planes, merge_planes and morph_planes this process uses.
#pragma once

#include <cstdint>

namespace steerlens {

// 16, on CPUs of level x86-64-v4; 8, of x86-64-v3; 0 where there are none, by this CPU or this build. The environment's
// STEERLENS_LANES may ask for fewer.
int64_t plane_lanes();

// Whether it asks for something that can be: unset, 0, 8 or 16.
bool plane_lanes_valid();

}  // namespace steerlens
