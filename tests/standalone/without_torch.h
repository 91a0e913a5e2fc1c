// What without_torch.cpp has in addition to csrc/cpu/parallel.h and scratch_memory.h, which it implements without torch.
#pragma once

namespace steerlens {

// Sets the number of threads of later parallel loops.
void set_num_threads(int threads);

}  // namespace steerlens
