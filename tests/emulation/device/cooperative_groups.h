// The part of CUDA's header of this name that csrc/cuda uses: clusters of blocks.
#pragma once

#include <cuda_runtime.h>

namespace cooperative_groups {

struct cluster_group {
  unsigned block_rank() const { return emulation::block_rank(); }
  unsigned num_blocks() const { return emulation::cluster_blocks(); }
  void sync(EMULATION_PLACE) const { emulation::wait_for_cluster({file, line}); }
  // The address of the same variable in the shared memory of another block.
  template <typename T>
  T* map_shared_rank(T* variable, unsigned rank) const {
    return reinterpret_cast<T*>(emulation::map_shared(reinterpret_cast<uintptr_t>(variable), rank));
  }
};

inline cluster_group this_cluster() { return {}; }

}  // namespace cooperative_groups
