#include "scratch_memory.h"

#include "../allocation.h"

namespace steerlens {

ScratchMemory::ScratchMemory(int64_t bytes) {
  auto* block = new RecycledBlock(bytes);
  data_ = block->data();
  block_ = block;
}

ScratchMemory::~ScratchMemory() { delete static_cast<RecycledBlock*>(block_); }

}  // namespace steerlens
