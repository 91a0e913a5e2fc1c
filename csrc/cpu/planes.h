// Where split_planes and merge_planes can be had.
#pragma once

namespace steerlens {

bool planes_supported();  // by this CPU and this build

}  // namespace steerlens
