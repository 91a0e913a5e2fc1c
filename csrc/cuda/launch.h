// Shared by all kernels: their launch, and the loop of pointwise kernels over the coefficients of every plane.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <map>
#include <tuple>

#include "../checks.h"
#include "access.h"

namespace steerlens {

constexpr int kThreads = 256;
// Blocks of kThreads that a multiprocessor must hold at once: 1024 threads, with up to 64 registers each. By default,
// the compiler may aim at more blocks than these kernels need, and spill registers.
constexpr int kMinBlocks = 4;
// The largest grid. Kernels that are launched with grid_size() loop over what exceeds it.
constexpr int64_t kMaxGridX = 2147483647, kMaxGridY = 65535;

// The shared memory that a block has without asking for more, and what its static variables may take of it.
constexpr size_t kMaxSharedBytes = 48 << 10, kMaxStaticBytes = 2 << 10;

// Its size is the argument `bytes` of run_with_shared() and run_clusters().
extern __shared__ uint4 dynamic_shared_memory[];

inline bool aligned(std::initializer_list<const void*> pointers, size_t bytes = 16) {
  return std::all_of(pointers.begin(), pointers.end(), [bytes](const void* p) {
    return reinterpret_cast<uintptr_t>(p) % bytes == 0;
  });
}

// Whether kernels may use clusters of blocks: not if the environment has STEERLENS_CUDA_CLUSTERS=0
// when the library is loaded.
inline const bool kClustersAllowed = [] {
  const char* const setting = std::getenv("STEERLENS_CUDA_CLUSTERS");
  return setting == nullptr || std::strcmp(setting, "0") != 0;
}();

// The largest cluster that all GPUs with clusters can run.
constexpr int kMaxClusterBlocks = 8;

inline unsigned grid_size(int64_t items, int64_t per_block, int64_t max_size) {
  return static_cast<unsigned>(std::min((items + per_block - 1) / per_block, max_size));
}

// Makes a tensor's device current while the Launcher exists, and launches kernels on the device's current stream.
class Launcher {
 public:
  explicit Launcher(const Tensor& on)
      : guard_(on.get_device_index()), device_(on.get_device_index()) {
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
    const cudaLaunchConfig_t config = config_of(bytes, grid, threads);
    // A function call instead of <<<>>>, so that a host compiler can parse it, too (tests/emulation).
    STD_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, args...));
  }

  int multiprocessors() const { return attribute(cudaDevAttrMultiProcessorCount); }
  int shared_bytes_of_multiprocessor() const {
    return attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
  }

  // How many blocks of a kernel the device can run at the same time, at least 1.
  template <typename... Params>
  int64_t blocks_at_once(size_t bytes, void (*kernel)(Params...), int threads) const {
    const int blocks = cached(kernel, threads, bytes, 1, [&] {
      int count = 0;
      STD_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&count, kernel, threads, bytes));
      return count;
    });
    return std::max<int64_t>(1, int64_t{blocks} * multiprocessors());
  }

  // Runs a kernel in `clusters` clusters of `size` blocks. Returns false, and runs nothing, if such clusters are not
  // possible or not allowed, or if the device has room for more than `max_at_once` clusters at the same time. With
  // `max_at_once` = `clusters`, the kernel runs only if its clusters fill the device.
  template <typename... Params, typename... Args>
  bool run_clusters(int64_t clusters, int size, int64_t max_at_once, size_t bytes,
                    void (*kernel)(Params...), int threads, const Args&... args) const {
    if (!kClustersAllowed || !attribute(cudaDevAttrClusterLaunch)) return false;
    cudaLaunchConfig_t config =
        config_of(bytes, dim3(static_cast<unsigned>(clusters * size)), threads);
    cudaLaunchAttribute cluster{};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = static_cast<unsigned>(size);
    cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    config.attrs = &cluster;
    config.numAttrs = 1;
    const int at_once =
        cached(kernel, threads, bytes, size, [&] { return clusters_at_once(kernel, config); });
    if (at_once < 1 || at_once > max_at_once) return false;
    STD_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, args...));
    return true;
  }

 private:
  static constexpr int kClusterArch = 90;

  // Returns the result of query(), such as the number of blocks that can run. query() asks the driver, so results are
  // cached: one for each value of the other arguments. Each thread has its own cache, so that no thread waits for
  // another.
  template <typename... Params, typename Query>
  int cached(void (*kernel)(Params...), int threads, size_t bytes, int cluster_size,
             const Query& query) const {
    using Key = std::tuple<int, int, void (*)(Params...), int, size_t, int>;
    thread_local std::map<Key, int> results;
    // Tests change the number of multiprocessors of an emulated device.
    const Key key{device_, multiprocessors(), kernel, threads, bytes, cluster_size};
    const auto found = results.find(key);
    return found != results.end() ? found->second : results[key] = query();
  }

  // How many clusters the device can run at the same time; 0 if it cannot run them. Raises the kernel's limit of
  // dynamic shared memory.
  template <typename... Params>
  int clusters_at_once(void (*kernel)(Params...), const cudaLaunchConfig_t& config) const {
    cudaFuncAttributes of_kernel{};
    STD_CUDA_CHECK(cudaFuncGetAttributes(&of_kernel, kernel));
    const int max_bytes = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) -
                          static_cast<int>(of_kernel.sharedSizeBytes);
    // Code that was compiled for older GPUs has no clusters.
    if (of_kernel.ptxVersion < kClusterArch ||
        static_cast<int>(config.dynamicSmemBytes) > max_bytes)
      return 0;
    // Always the same value, since other threads may launch the kernel at the same time.
    STD_CUDA_CHECK(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, max_bytes));
    int count = 0;
    if (cudaOccupancyMaxActiveClusters(&count, kernel, &config) == cudaSuccess) return count;
    static_cast<void>(cudaGetLastError());  // otherwise the next check would report this error
    return 0;
  }

  int attribute(cudaDeviceAttr name) const {
    int value = 0;
    STD_CUDA_CHECK(cudaDeviceGetAttribute(&value, name, device_));
    return value;
  }

  cudaLaunchConfig_t config_of(size_t bytes, dim3 grid, int threads) const {
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = bytes;
    config.stream = stream_;
    return config;
  }

  torch::stable::accelerator::DeviceGuard guard_;
  int device_;
  cudaStream_t stream_;
};

// Calls op.apply(data, pieces) for the pieces of every plane. data = op.plane_data(n) is what the coefficients of plane
// n have in common. The grid's y counts planes.
template <int kPieceSize, int kBlocks, typename Op>
__global__ void __launch_bounds__(kThreads, kBlocks)
    for_each_kernel(const __grid_constant__ Op op, int64_t planes, int64_t area) {
  for (int64_t n = blockIdx.y; n < planes; n += gridDim.y) {
    const auto data = op.plane_data(n);
    op.apply(data, Pieces<Op::kPerThread / kPieceSize, kPieceSize>(n, area, warp_in_row()));
  }
}

// Launches for_each_kernel. A piece has kWide coefficients if all arrays of the op are aligned to 16 bytes (`wide`) and
// `area` is a multiple of kWide. Otherwise it has one coefficient.
template <int kWide, int kBlocks = kMinBlocks, typename Op>
void for_each_coefficient(const Op& op, int64_t planes, int64_t area, bool wide,
                          const Launcher& launcher) {
  wide = wide && area % kWide == 0;
  const int64_t warps = warps_of<Op::kPerThread>(area);
  // Small planes get small blocks.
  const int threads = static_cast<int>(std::min<int64_t>(kThreads, warps * kWarp));
  const dim3 grid(static_cast<unsigned>((warps * kWarp + threads - 1) / threads),
                  grid_size(planes, 1, kMaxGridY));
  launcher.run(wide ? for_each_kernel<kWide, kBlocks, Op> : for_each_kernel<1, kBlocks, Op>, grid,
               threads, op, planes, area);
}

}  // namespace steerlens
