// Shared by all kernels: wide loads and stores, and the launch of one thread for every few
// coefficients.
//
// The kernels are bound by memory. A thread moves 16 bytes per access where its array allows it;
// where it does not (a plane of an odd number of samples), each access is one coefficient, and
// neighbouring threads still touch neighbouring addresses.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>

#include "../checks.h"

namespace steerlens {

constexpr int kWarp = 32;
constexpr int kThreads = 256;
// Blocks that a multiprocessor must hold at once, which allows the compiler up to 128 registers a thread. By
// default it aims at more blocks than memory-bound kernels need, and spills registers.
constexpr int kMinBlocks = 2;
// The largest grid; kernels loop over what exceeds it.
constexpr int64_t kMaxGridX = 2147483647, kMaxGridY = 65535;

// Launcher::run_with_shared sets its size.
extern __shared__ uint4 dynamic_shared_memory[];

constexpr size_t access_bytes(size_t bytes) { return bytes < 16 ? bytes : 16; }

// kCount values that are read or written together, in accesses of up to 16 bytes.
template <typename V, int kCount>
struct alignas(access_bytes(sizeof(V) * kCount)) Pack {
  V v[kCount];
};

template <size_t kBytes>
struct WordOf;
template <>
struct WordOf<4> {
  using type = unsigned int;
};
template <>
struct WordOf<8> {
  using type = uint2;
};
template <>
struct WordOf<16> {
  using type = uint4;
};

// Reads through the read-only cache: no kernel writes what it reads, so the compiler may move loads above
// stores and keep several in flight.
template <int kCount, typename V>
__device__ __forceinline__ Pack<V, kCount> load(const V* p) {
  using Word = typename WordOf<alignof(Pack<V, kCount>)>::type;
  constexpr int kWords = sizeof(Pack<V, kCount>) / sizeof(Word);
  const Word* from = reinterpret_cast<const Word*>(p);
  Word words[kWords];
#pragma unroll
  for (int i = 0; i < kWords; ++i) words[i] = __ldg(from + i);
  Pack<V, kCount> pack;
  memcpy(&pack, words, sizeof(pack));
  return pack;
}

template <typename V>
__device__ __forceinline__ V load_one(const V* p) {
  return load<1>(p).v[0];
}

template <typename V, int kCount>
__device__ __forceinline__ void store(V* p, const Pack<V, kCount>& pack) {
  *reinterpret_cast<Pack<V, kCount>*>(p) = pack;
}

inline bool aligned(std::initializer_list<const void*> pointers, size_t bytes = 16) {
  return std::all_of(pointers.begin(), pointers.end(), [bytes](const void* p) {
    return reinterpret_cast<uintptr_t>(p) % bytes == 0;
  });
}

inline unsigned grid_size(int64_t items, int64_t per_block, int64_t max_size) {
  return static_cast<unsigned>(std::min((items + per_block - 1) / per_block, max_size));
}

// Makes the tensor's device current for its lifetime, and launches kernels on the device's current stream.
class Launcher {
 public:
  explicit Launcher(const Tensor& on) : guard_(on.get_device_index()) {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(on.get_device_index(), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }

  template <typename... Params, typename... Args>
  void run(void (*kernel)(Params...), dim3 grid, int threads, const Args&... args) const {
    run_with_shared(0, kernel, grid, threads, args...);
  }

  // The same with `bytes` of dynamic shared memory.
  template <typename... Params, typename... Args>
  void run_with_shared(size_t bytes, void (*kernel)(Params...), dim3 grid, int threads,
                       const Args&... args) const {
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = bytes;
    config.stream = stream_;
    // A function, not <<<>>>: a host compiler can parse it, too (tests/emulation).
    STD_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, args...));
  }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

// Calls op.at<kCount>(of_plane, i) for every kCount consecutive coefficients i of every plane, where
// of_plane = op.plane_data(n) is what the coefficients of plane n have in common. The grid's y counts planes.
template <int kCount, typename Op>
__global__ void __launch_bounds__(kThreads, kMinBlocks)
    for_each_kernel(const __grid_constant__ Op op, int64_t planes, int64_t area) {
  const int64_t first = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kCount;
  const int64_t stride = int64_t{gridDim.x} * blockDim.x * kCount;
  for (int64_t n = blockIdx.y; n < planes; n += gridDim.y) {
    const auto of_plane = op.plane_data(n);
    int64_t i = first;
    for (; i + kCount <= area; i += stride) op.template at<kCount>(of_plane, n * area + i);
    for (; i < area; ++i) op.template at<1>(of_plane, n * area + i);
  }
}

// `wide`: every array that op accesses is aligned to 16 bytes. A single plane may have any size.
template <typename Op>
void for_each_coefficient(const Op& op, int64_t planes, int64_t area, bool wide,
                          const Launcher& launcher) {
  constexpr int kWide = Op::kWide;
  wide = wide && (planes == 1 || area % kWide == 0);  // else planes begin inside a 16-byte access
  const int64_t per_thread = wide ? kWide : 1, packs = (area + per_thread - 1) / per_thread;
  // Small planes get small blocks, in whole warps.
  const int threads =
      static_cast<int>(std::min<int64_t>(kThreads, (packs + kWarp - 1) / kWarp * kWarp));
  const dim3 grid(grid_size(packs, threads, kMaxGridX), grid_size(planes, 1, kMaxGridY));
  launcher.run(wide ? for_each_kernel<kWide, Op> : for_each_kernel<1, Op>, grid, threads, op,
               planes, area);
}

}  // namespace steerlens
