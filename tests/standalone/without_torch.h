// without_torch.cpp implements csrc/cpu/parallel.h and scratch_memory.h without torch. It also has this function.
#pragma once

namespace steerlens {

// Sets the number of threads of later parallel loops.
void set_num_threads(int threads);

}  // namespace steerlens
