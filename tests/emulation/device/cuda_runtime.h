// The keywords, types and functions of CUDA that csrc/cuda uses, for a host compiler. A kernel is an ordinary function,
// which scheduler.cpp calls for every thread of a grid. All headers of torch are included first, since this file defines
// macros with names that they use.
#pragma once

#ifndef EMULATION_WITHOUT_TORCH
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#endif

#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <utility>

#define __global__ __attribute__((noinline))
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __grid_constant__
#define __launch_bounds__(...)
// All shared variables are in one section, whose begin and end the scheduler knows.
#define __shared__ __attribute__((section("shared_memory")))

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  dim3(unsigned x, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct uint3 {
  unsigned x, y, z;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

// These are plain variables, since one thread runs at a time.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace emulation {

// A line of the source code; inlined copies of a call have the same place.
struct Place {
  const char* file;
  int line;
};

void wait_for_block(Place place);
// The same; returns whether any thread of the block gave true.
bool any_of_block(bool value, Place place);
// Exchanges 8 bytes within a warp: provides `value` to other lanes, and returns the value of lane `source`.
uint64_t exchange(unsigned mask, uint64_t value, int source, Place place, const char* what);
int lane();
// Clusters of blocks.
void wait_for_cluster(Place place);
unsigned block_rank();
unsigned cluster_blocks();
uintptr_t map_shared(uintptr_t address, unsigned rank);

struct Launch {
  const void* kernel;
  dim3 grid, block;
  unsigned cluster_blocks;
  size_t dynamic_shared_bytes, parameter_bytes;
  std::function<void()> run_thread;
};
// Properties of the device. ask_for_shared returns whether a kernel may use this much dynamic shared memory.
int multiprocessors();
int blocks_per_multiprocessor(int threads, size_t dynamic_shared_bytes);
size_t max_shared_bytes();
size_t shared_bytes_per_multiprocessor();
bool clusters_supported();
bool ask_for_shared(const void* kernel, size_t dynamic_bytes);
// Runs all threads of a launch. Throws std::runtime_error if a GPU would report an error or wait forever.
void run(const Launch& launch);

template <typename T>
T shuffle(unsigned mask, T value, int source, Place place, const char* what) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "shuffles exchange up to 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  bits = exchange(mask, bits, source, place, what);
  memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace emulation

// Intrinsics for one load and one store. -fsanitize=alignment checks the alignment of `p`.
template <typename T>
__forceinline__ T __ldg(const T* p) {
  return *p;
}
template <typename T>
__forceinline__ void __stwb(T* p, T value) {
  *p = value;
}

#define EMULATION_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(EMULATION_PLACE) { emulation::wait_for_block({file, line}); }
inline int __syncthreads_or(int value, EMULATION_PLACE) {
  return emulation::any_of_block(value != 0, {file, line});
}
inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATION_PLACE) {
  emulation::exchange(mask, 0, emulation::lane(), {file, line}, "__syncwarp");
}
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, EMULATION_PLACE) {
  return emulation::shuffle(mask, value, source, {file, line}, "__shfl_sync");
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, EMULATION_PLACE) {
  return emulation::shuffle(mask, value, emulation::lane() ^ lane_mask, {file, line},
                            "__shfl_xor_sync");
}

using cudaStream_t = void*;
using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0, cudaErrorInvalidValue = 1;
enum cudaLaunchAttributeID { cudaLaunchAttributeClusterDimension };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    uint3 clusterDim;  // only x is emulated
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};

inline unsigned cluster_size(const cudaLaunchConfig_t& config) {
  return config.numAttrs ? config.attrs[0].val.clusterDim.x : 1;
}

template <typename... Params, typename... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...),
                               Args&&... args) {
  const std::tuple<Params...> params(std::forward<Args>(args)...);
  emulation::run({reinterpret_cast<const void*>(kernel), config->gridDim, config->blockDim,
                  cluster_size(*config), config->dynamicSmemBytes, sizeof(params),
                  [&] { std::apply(kernel, params); }});
  return cudaSuccess;
}

inline cudaError_t cudaGetLastError() { return cudaSuccess; }

enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrClusterLaunch,
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor
};

inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = emulation::multiprocessors();
      break;
    case cudaDevAttrClusterLaunch:
      *value = emulation::clusters_supported();
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(emulation::max_shared_bytes());
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(emulation::shared_bytes_per_multiprocessor());
      break;
  }
  return cudaSuccess;
}

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
struct cudaFuncAttributes {
  size_t sharedSizeBytes;
  int ptxVersion;
};

template <typename... Params>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*)(Params...)) {
  *attributes = {2048, 90};  // the static memory that scheduler.cpp assumes; code for sm_90
  return cudaSuccess;
}

template <typename... Params>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Params...), cudaFuncAttribute, int bytes) {
  return emulation::ask_for_shared(reinterpret_cast<const void*>(kernel), bytes)
             ? cudaSuccess
             : cudaErrorInvalidValue;
}

template <typename... Params>
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, void (*)(Params...),
                                           const cudaLaunchConfig_t* config) {
  const int blocks = emulation::blocks_per_multiprocessor(static_cast<int>(config->blockDim.x),
                                                          config->dynamicSmemBytes);
  *clusters = blocks * emulation::multiprocessors() / static_cast<int>(cluster_size(*config));
  return cudaSuccess;
}

template <typename... Params>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void (*)(Params...),
                                                          int threads, size_t bytes) {
  *blocks = emulation::blocks_per_multiprocessor(threads, bytes);
  return 0;
}

#ifndef EMULATION_WITHOUT_TORCH

#undef STD_CUDA_CHECK
#define STD_CUDA_CHECK(call) static_cast<void>(call)

inline AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = nullptr;
  return 0;
}

namespace torch::stable::accelerator {
struct HostGuard {
  explicit HostGuard(DeviceIndex) {}
};
}  // namespace torch::stable::accelerator

#define DeviceGuard HostGuard
#define CUDA CPU  // the dispatch key of STABLE_TORCH_LIBRARY_IMPL

#endif
