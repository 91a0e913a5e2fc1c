// Allocates tensors and scratch memory. Large blocks of CPU memory get huge pages, and are recycled: a freed result or
// scratch block is kept (as an *idle block*) and reused. Errors say what could not be allocated.
//
// Writing a new tensor mostly consists of page faults. Larger pages cause fewer: writing 38 MB took 48 ms in pages of 4
// KiB, and 5 ms in pages of 2 MiB. Recycled memory causes none. (glibc does not recycle large blocks, it returns them
// to the operating system.) When memory is scarce, the operating system may take the pages of idle blocks (MADV_FREE).
//
// Blocks are allocated by torch, so torch's memory statistics include them, also while they are idle. A result in a
// recycled block cannot be resized in place (torch then reports "Trying to resize storage that is not resizable").
//
// LibTorch's stable ABI drops the type of torch's errors and, before torch 2.13, their text. So these functions throw
// errors of their own, in which steerlens_fast/models/errors.py looks for "out of memory".
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <dlfcn.h>
#include <sys/mman.h>
#endif

namespace steerlens {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

using Shape = std::vector<int64_t>;

inline std::string shape_text(const Shape& shape) {
  std::ostringstream out;
  out << "[";
  for (size_t i = 0; i < shape.size(); ++i) out << (i ? ", " : "") << shape[i];
  out << "]";
  return out.str();
}

inline std::string device_text(const Tensor& t) {
  return t.is_cuda()  ? "cuda:" + std::to_string(t.get_device_index())
         : t.is_cpu() ? "cpu"
                      : "another device";
}

// A function of LibTorch that torch 2.10 does not have, or null. It is looked up at run time, since a library that
// links to it would not load with torch 2.10.
template <typename Function>
Function newer_torch_function([[maybe_unused]] const char* name) {
#if defined(__linux__)
  void* torch = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
  return torch == nullptr ? nullptr : reinterpret_cast<Function>(dlsym(torch, name));
#else
  return nullptr;
#endif
}

// The number of a dtype in torch's C functions.
inline int32_t dtype_number(ScalarType type) {
  return torch::stable::detail::to<int32_t>(torch::stable::detail::from(type));
}

// The size in bytes of a contiguous tensor.
inline int64_t bytes_of(const Shape& shape, ScalarType type) {
  int64_t bytes = static_cast<int64_t>(aoti_torch_dtype_element_size(dtype_number(type)));
  bool overflows = false;
  for (const int64_t n : shape) {
    if (n == 0) return 0;
    overflows = overflows || bytes > INT64_MAX / n;
    if (!overflows) bytes *= n;
  }
  if (overflows)
    throw std::runtime_error("a tensor of shape " + shape_text(shape) +
                             " would have more than 2^63 - 1 bytes");
  return bytes;
}

// --- Huge pages ---

constexpr uint64_t kHugePage = uint64_t{1} << 21;

// The whole huge pages in [data, data + bytes).
struct HugePages {
  void* first;
  uint64_t bytes;

  HugePages(void* data, uint64_t bytes_of_data) {
    const uint64_t begin = reinterpret_cast<uint64_t>(data);
    const uint64_t start = (begin + kHugePage - 1) & ~(kHugePage - 1);
    const uint64_t end = (begin + bytes_of_data) & ~(kHugePage - 1);
    first = reinterpret_cast<void*>(start);
    bytes = end > start ? end - start : 0;
  }
};

// Asks the operating system for transparent huge pages in [data, data + bytes). It has no effect if huge pages are
// disabled, or where the memory has already been used.
inline void advise_huge_pages([[maybe_unused]] void* data, [[maybe_unused]] uint64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const HugePages pages(data, bytes);
  if (bytes >= 2 * kHugePage && pages.bytes > 0)
    (void)madvise(pages.first, pages.bytes, MADV_HUGEPAGE);
#endif
}

// Allows the operating system to take pages, whose contents are then lost. Only whole huge pages: to mark a part of one
// would split it.
#if defined(__linux__) && defined(MADV_FREE)
constexpr bool kCanMarkAsFree = true;
inline void mark_as_free(void* data, uint64_t bytes) {
  const HugePages pages(data, bytes);
  if (pages.bytes > 0) (void)madvise(pages.first, pages.bytes, MADV_FREE);
}
#else
constexpr bool kCanMarkAsFree = false;
inline void mark_as_free(void*, uint64_t) {}
#endif

// --- Idle blocks ---

// Smaller blocks are not recycled. advise_huge_pages ignores them, too.
constexpr int64_t kMinRecycledBytes = 2 * int64_t{kHugePage};
// Idle blocks have at most this many bytes together; the oldest are freed first.
constexpr int64_t kMaxIdleBytes = int64_t{512} << 20;

// The idle blocks, which are tensors of bytes. No method waits for the lock: if this process was forked while another
// thread held the lock, it is held forever. Without the lock, a method does nothing.
class IdleBlocks {
 public:
  IdleBlocks() {
    const char* setting = std::getenv("STEERLENS_KEEP_FREED_MEMORY");
    enabled_ = kCanMarkAsFree && (setting == nullptr || std::strcmp(setting, "0") != 0);
  }

  bool enabled() const { return enabled_; }

  // The smallest idle block of at least `bytes` bytes, if it is not much larger.
  std::optional<Tensor> take(int64_t bytes) {
    if (bytes < kMinRecycledBytes) return std::nullopt;
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

  // Makes a block idle unless it is too small or too large; its contents may be lost.
  void give(Tensor block) {
    const int64_t bytes = block.numel();
    if (!enabled_ || bytes < kMinRecycledBytes || bytes > kMaxIdleBytes) return;
    std::vector<Tensor> freed;  // destroyed after the lock is released
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return;
    mark_as_free(block.mutable_data_ptr(), static_cast<uint64_t>(bytes));
    idle_bytes_ += bytes;
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

  std::mutex mutex_;
  std::vector<Tensor> idle_;  // the oldest first
  int64_t idle_bytes_ = 0;
  bool enabled_;
};

// Made when the library is loaded, and never deleted, since results may be freed after static destructors.
inline IdleBlocks& idle_blocks = *new IdleBlocks;

// --- Allocation ---

using LastError = const char* (*)();
inline const LastError last_error =
    newer_torch_function<LastError>("torch_exception_get_what_without_backtrace");
// The text of torch's last error in this thread; "" before torch 2.13.
inline std::string last_torch_error() { return last_error == nullptr ? "" : last_error(); }

// Throws the error of a failed allocation. `shape` is empty for scratch memory.
[[noreturn]] inline void fail_allocation(int64_t bytes, const std::string& device,
                                         const Shape& shape) {
  const std::string cause = last_torch_error();
  // A GPU also reports errors of earlier kernels when memory is allocated.
  const bool out_of_memory = cause.empty() || cause.find("out of memory") != std::string::npos ||
                             cause.find("allocate memory") != std::string::npos;
  std::ostringstream out;
  out << (out_of_memory ? "out of memory: " : "allocation failed: ") << bytes << " bytes on "
      << device;
  if (!shape.empty()) out << " (shape " << shape_text(shape) << ")";
  if (!cause.empty()) out << ": " << cause;
  throw std::runtime_error(out.str());
}

// Returns allocate(). If there is too little CPU memory, frees the idle blocks and tries again.
template <typename Allocate>
Tensor allocated(int64_t bytes, const std::string& device, const Shape& shape,
                 const Allocate& allocate) {
  try {
    return allocate();
  } catch (const std::exception&) {
    if (device != "cpu") fail_allocation(bytes, device, shape);
  }
  idle_blocks.free_all();
  try {
    return allocate();
  } catch (const std::exception&) {
    fail_allocation(bytes, device, shape);
  }
}

// Owns a block of CPU memory, and makes it idle when destroyed.
class RecycledBlock {
 public:
  explicit RecycledBlock(int64_t bytes, const Shape& shape = {})
      : block_(idle_or_new(bytes, shape)) {}
  RecycledBlock(const RecycledBlock&) = delete;
  ~RecycledBlock() { idle_blocks.give(std::move(block_)); }

  void* data() const { return block_.mutable_data_ptr(); }

 private:
  static Tensor idle_or_new(int64_t bytes, const Shape& shape) {
    if (const std::optional<Tensor> idle = idle_blocks.take(bytes)) return *idle;
    const Tensor block = allocated(bytes, "cpu", shape,
                                   [&] { return torch::stable::empty({bytes}, ScalarType::Byte); });
    advise_huge_pages(block.mutable_data_ptr(), static_cast<uint64_t>(bytes));
    return block;
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

// The memory of a result.
struct ResultBlock {
  RecycledBlock block;
  // The deleter sets *freed. torch_from_blob may call it and then fail; the block must not be deleted twice. `freed` is
  // null once there is a result.
  bool* freed;
};

// An uninitialised, contiguous CPU tensor in a recycled block.
inline Tensor recycled_tensor(const Shape& shape, ScalarType type) {
  Shape strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  bool freed = false;
  auto* owned = new ResultBlock{RecycledBlock(bytes_of(shape, type), shape), &freed};
  const auto give_back = [](void*, void* context) {
    auto* result = static_cast<ResultBlock*>(context);
    if (result->freed) *result->freed = true;
    delete result;
  };
  AtenTensorHandle result;
  const AOTITorchError error =
      from_blob(owned->block.data(), static_cast<int64_t>(shape.size()), shape.data(),
                strides.data(), 0, dtype_number(type), aoti_torch_device_type_cpu(), -1, &result,
                aoti_torch_layout_strided(), nullptr, 0, give_back, owned);
  if (error != AOTI_TORCH_SUCCESS && !freed) delete owned;
  TORCH_ERROR_CODE_CHECK(error);
  owned->freed = nullptr;
  return Tensor(result);
}

// A new, uninitialised tensor on the device of `like`.
inline Tensor new_tensor(const Tensor& like, const Shape& shape, ScalarType type) {
  const int64_t bytes = bytes_of(shape, type);
  if (like.is_cpu() && bytes >= kMinRecycledBytes && from_blob != nullptr && idle_blocks.enabled())
    return recycled_tensor(shape, type);
  Tensor t = allocated(bytes, device_text(like), shape,
                       [&] { return torch::stable::new_empty(like, shape, type); });
  if (like.is_cpu()) advise_huge_pages(t.mutable_data_ptr(), static_cast<uint64_t>(bytes));
  return t;
}

}  // namespace steerlens
