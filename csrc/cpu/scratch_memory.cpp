#include "scratch_memory.h"

#include "../checks.h"

namespace steerlens {

ScratchMemory::ScratchMemory(int64_t bytes) {
  Tensor tensor = torch::stable::empty({bytes}, ScalarType::Byte);
  data_ = tensor.mutable_data_ptr();
  advise_huge_pages(data_, static_cast<uint64_t>(bytes));
  tensor_ = new Tensor(std::move(tensor));
}

ScratchMemory::~ScratchMemory() { delete static_cast<Tensor*>(tensor_); }

}  // namespace steerlens
