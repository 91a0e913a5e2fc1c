// Recycles large blocks of CPU memory: a freed result or scratch block is kept (as an *idle block*) and reused.
//
// Without this, glibc would return large freed blocks to the operating system. The next result would need new pages,
// and zeroing them can take longer than computing the result. The operating system may take the pages of idle blocks
// when memory is scarce (MADV_FREE).
//
// Blocks are allocated by torch, so torch's memory statistics include them, also while they are idle. A result in a
// recycled block cannot be resized in place (torch then reports "Trying to resize storage that is not resizable").
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "allocation.h"
#include "memory.h"

#if defined(__linux__) && defined(MADV_FREE)
#define STEERLENS_RECYCLE 1
#endif

namespace steerlens {

// Smaller blocks are not recycled. No huge pages are requested for them (advise_huge_pages in memory.h).
constexpr int64_t kMinRecycledBytes = 2 * int64_t{kHugePage};
// Idle blocks have at most this many bytes together; the oldest are freed first.
constexpr int64_t kMaxIdleBytes = int64_t{512} << 20;

// Allocates a block, as a tensor of bytes.
inline Tensor new_block(int64_t bytes) {
  Tensor block = torch::stable::empty({bytes}, ScalarType::Byte);
  advise_huge_pages(block.mutable_data_ptr(), static_cast<uint64_t>(bytes));
  return block;
}

#ifdef STEERLENS_RECYCLE

// The idle blocks. No method waits for the lock: if this process was forked while another thread held the lock, it is
// held forever. Without the lock, a method does nothing.
class IdleBlocks {
 public:
  IdleBlocks() {
    const char* setting = std::getenv("STEERLENS_KEEP_FREED_MEMORY");
    enabled_ = setting == nullptr || std::strcmp(setting, "0") != 0;
  }

  // The smallest idle block with room for `bytes` that is not much larger.
  std::optional<Tensor> take(int64_t bytes) {
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return std::nullopt;
    size_t best = idle_.size();
    for (size_t i = 0; i < idle_.size(); ++i) {
      const int64_t size = idle_[i].numel();
      if (size < bytes || size > bytes + bytes / 2) continue;
      if (best == idle_.size() || size < idle_[best].numel()) best = i;
    }
    if (best == idle_.size()) return std::nullopt;
    return remove(best);
  }

  bool enabled() const { return enabled_; }

  // Makes a block idle; its contents may be lost.
  void give(Tensor block) {
    std::vector<Tensor> freed;  // destroyed after the lock is released
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock() || !enabled_ || block.numel() > kMaxIdleBytes) return;
    mark_as_free(block);
    idle_bytes_ += block.numel();
    idle_.push_back(std::move(block));
    while (idle_bytes_ > kMaxIdleBytes) freed.push_back(remove(0));
  }

  int64_t bytes() {
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    return lock.owns_lock() ? idle_bytes_ : 0;
  }

  void free_all() {
    std::vector<Tensor> freed;
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return;
    idle_.swap(freed);
    idle_bytes_ = 0;
  }

 private:
  Tensor remove(size_t index) {
    Tensor block = std::move(idle_[index]);
    idle_.erase(idle_.begin() + static_cast<int64_t>(index));
    idle_bytes_ -= block.numel();
    return block;
  }

  // Marks only whole huge pages: marking a part of a huge page would split it.
  static void mark_as_free(const Tensor& block) {
    const HugePages pages(block.mutable_data_ptr(), static_cast<uint64_t>(block.numel()));
    if (pages.bytes > 0) (void)madvise(pages.first, pages.bytes, MADV_FREE);
  }

  std::mutex mutex_;
  std::vector<Tensor> idle_;  // tensors of bytes, the oldest first
  int64_t idle_bytes_ = 0;
  bool enabled_;
};

// Made when the library is loaded, and never deleted, since results may be freed after static destructors.
inline IdleBlocks& idle_blocks = *new IdleBlocks;

inline int64_t idle_bytes() { return idle_blocks.bytes(); }
inline void free_idle_blocks() { idle_blocks.free_all(); }

#else

inline int64_t idle_bytes() { return 0; }
inline void free_idle_blocks() {}

#endif

// Allocates CPU memory. If there is too little, frees the idle blocks and tries again.
template <typename Allocate>
Tensor allocated_on_cpu(int64_t bytes, const std::string& shape, const Allocate& allocate) {
  try {
    return allocate();
  } catch (const std::exception&) {
    free_idle_blocks();
    return allocated({bytes, "cpu", shape}, allocate);
  }
}

#ifdef STEERLENS_RECYCLE

// Owns a block, and makes it idle when destroyed.
class RecycledBlock {
 public:
  // An error message contains `shape` if it is not empty.
  explicit RecycledBlock(int64_t bytes, const std::string& shape = "")
      : block_(idle_or_new(bytes, shape)) {}
  RecycledBlock(const RecycledBlock&) = delete;
  ~RecycledBlock() {
    if (block_.numel() >= kMinRecycledBytes) idle_blocks.give(std::move(block_));
  }

  void* data() const { return block_.mutable_data_ptr(); }

 private:
  static Tensor idle_or_new(int64_t bytes, const std::string& shape) {
    std::optional<Tensor> idle;
    if (bytes >= kMinRecycledBytes) idle = idle_blocks.take(bytes);
    return idle ? *idle : allocated_on_cpu(bytes, shape, [&] { return new_block(bytes); });
  }

  Tensor block_;
};

// torch_from_blob, or null with torch 2.10, which does not have it; results are then not recycled.
using FromBlob = AOTITorchError (*)(void* data, int64_t ndim, const int64_t* sizes,
                                    const int64_t* strides, int64_t offset, int32_t dtype,
                                    int32_t device_type, int32_t device_index,
                                    AtenTensorHandle* result, int32_t layout,
                                    const uint8_t* opaque_metadata, int64_t opaque_metadata_size,
                                    void (*deleter)(void* data, void* context), void* context);
inline const FromBlob from_blob = newer_torch_function<FromBlob>("torch_from_blob");

inline bool can_recycle_results() { return from_blob != nullptr && idle_blocks.enabled(); }

// The memory of a result.
struct ResultBlock {
  RecycledBlock block;
  // Where the deleter notes that it has run: torch_from_blob may call it and then fail. Null when a result exists.
  bool* freed;
};

// An uninitialised, contiguous CPU tensor in a recycled block.
inline Tensor recycled_tensor(const Shape& shape, ScalarType type) {
  Shape strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  bool freed = false;
  auto* owned = new ResultBlock{RecycledBlock(bytes_of(shape, type), shape_text(shape)), &freed};
  const auto give_back = [](void*, void* context) {
    auto* result = static_cast<ResultBlock*>(context);
    if (result->freed) *result->freed = true;
    delete result;
  };
  const auto dtype = torch::stable::detail::to<int32_t>(torch::stable::detail::from(type));
  AtenTensorHandle result;
  const AOTITorchError error =
      from_blob(owned->block.data(), static_cast<int64_t>(shape.size()), shape.data(),
                strides.data(), 0, dtype, aoti_torch_device_type_cpu(), -1, &result,
                aoti_torch_layout_strided(), nullptr, 0, give_back, owned);
  if (error != AOTI_TORCH_SUCCESS && !freed) delete owned;
  TORCH_ERROR_CODE_CHECK(error);
  owned->freed = nullptr;
  return Tensor(result);
}

#else

class RecycledBlock {
 public:
  explicit RecycledBlock(int64_t bytes)
      : block_(allocated_on_cpu(bytes, "", [&] { return new_block(bytes); })) {}
  RecycledBlock(const RecycledBlock&) = delete;

  void* data() const { return block_.mutable_data_ptr(); }

 private:
  Tensor block_;
};

inline bool can_recycle_results() { return false; }
inline Tensor recycled_tensor(const Shape&, ScalarType) { return Tensor(); }

#endif

}  // namespace steerlens
