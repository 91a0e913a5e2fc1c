// Memory of kernels, for code that does not include torch.
#pragma once

#include <cstdint>

namespace steerlens {

// Uninitialised memory from torch's allocator, so that torch's memory statistics include it; large blocks are
// recycled (allocation.h).
class ScratchMemory {
 public:
  explicit ScratchMemory(int64_t bytes);
  ScratchMemory(const ScratchMemory&) = delete;
  ~ScratchMemory();

  template <typename V>
  V* data() const {
    return static_cast<V*>(data_);
  }

 private:
  void* block_;
  void* data_;
};

}  // namespace steerlens
