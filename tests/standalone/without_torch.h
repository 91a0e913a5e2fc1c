// Parallel loops and memory of the kernels (csrc/cpu/parallel.h, scratch_memory.h) without torch.
#pragma once

namespace steerlens {

// The number of threads of the next parallel loops.
void set_num_threads(int threads);

}  // namespace steerlens
