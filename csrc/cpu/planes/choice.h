// Which of the versions of split_planes, merge_planes and morph_planes this process uses.
#pragma once

#include <cstdint>
#include <string>

namespace steerlens {

// 16, on CPUs of level x86-64-v4; 8, of x86-64-v3; 0 where there are none, by this CPU or this build. The
// environment's STEERLENS_LANES, 0, 8 or 16, may ask for fewer; it is read once.
int64_t plane_lanes();

// What it asked for that cannot be; else nothing. Then there are no lanes, and no module.
const std::string& refused_lanes();

}  // namespace steerlens
