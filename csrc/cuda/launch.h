// Shared by all kernels: their launch, and the loop of the pointwise ones over the coefficients of every plane.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include <algorithm>
#include <initializer_list>

#include "../checks.h"
#include "access.h"

namespace steerlens {

constexpr int kThreads = 256;
// Blocks that a multiprocessor must hold at once. With 2, the compiler may use up to 128 registers per thread. By
// default, it aims at more blocks than these kernels need, and spills registers.
constexpr int kMinBlocks = 2;
// The largest grid; kernels loop over what exceeds it.
constexpr int64_t kMaxGridX = 2147483647, kMaxGridY = 65535;

// The shared memory that a block has without asking for more, and what its static variables may take of it.
constexpr size_t kMaxSharedBytes = 48 << 10, kMaxStaticBytes = 2 << 10;

// Launcher::run_with_shared sets its size.
extern __shared__ uint4 dynamic_shared_memory[];

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
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = bytes;
    config.stream = stream_;
    // A function call instead of <<<>>>, so that a host compiler can parse it, too (tests/emulation).
    STD_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, args...));
  }

  // How many blocks of a kernel the device can run at the same time, at least 1.
  template <typename... Params>
  int64_t blocks_at_once(size_t bytes, void (*kernel)(Params...), int threads) const {
    int blocks = 0, multiprocessors = 0;
    STD_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, bytes));
    STD_CUDA_CHECK(
        cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device_));
    return std::max<int64_t>(1, int64_t{blocks} * multiprocessors);
  }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  int device_;
  cudaStream_t stream_;
};

// Calls op.at(of_plane, at) for the pieces `at` of every plane, where of_plane = op.plane_data(n) is what the
// coefficients of plane n have in common. The grid's y counts planes.
template <int kPiece, typename Op>
__global__ void __launch_bounds__(kThreads, kMinBlocks)
    for_each_kernel(const __grid_constant__ Op op, int64_t planes, int64_t area) {
  for (int64_t n = blockIdx.y; n < planes; n += gridDim.y) {
    const auto of_plane = op.plane_data(n);
    op.at(of_plane, Pieces<Op::kPerThread / kPiece, kPiece>(n, area, warp_in_row()));
  }
}

// Launches for_each_kernel. If every array of the op is aligned to 16 bytes (`wide`) and planes have whole pieces, a
// piece has kWide coefficients. Otherwise it has one.
template <int kWide, typename Op>
void for_each_coefficient(const Op& op, int64_t planes, int64_t area, bool wide,
                          const Launcher& launcher) {
  wide = wide && area % kWide == 0;
  const int64_t warps = warps_of<Op::kPerThread>(area);
  // Small planes get small blocks.
  const int threads = static_cast<int>(std::min<int64_t>(kThreads, warps * kWarp));
  const dim3 grid(static_cast<unsigned>((warps * kWarp + threads - 1) / threads),
                  grid_size(planes, 1, kMaxGridY));
  launcher.run(wide ? for_each_kernel<kWide, Op> : for_each_kernel<1, Op>, grid, threads, op,
               planes, area);
}

}  // namespace steerlens
