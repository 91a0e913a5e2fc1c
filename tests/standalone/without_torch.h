// An implementation of csrc/cpu/parallel.h and scratch_memory.h that does not use torch.
#pragma once

namespace steerlens {

// Sets the number of threads of later parallel loops.
void set_num_threads(int threads);

}  // namespace steerlens
