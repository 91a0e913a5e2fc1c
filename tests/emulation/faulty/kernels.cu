// Kernels for test_rejects.py and test_traffic.py: most have one fault each.
#define EMULATION_WITHOUT_TORCH
#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <map>
#include <stdexcept>
#include <string>

#include "cuda/access.h"

namespace {

__global__ void misaligned_load(float* data) {
  const uint4 v = __ldg(reinterpret_cast<const uint4*>(data + 1));
  data[8] = static_cast<float>(v.x);
}

__global__ void misaligned_store(float* data) {
  *reinterpret_cast<uint2*>(data + 1) = {threadIdx.x, 0};
}

__global__ void barrier_of_some(float*) {
  if (threadIdx.x < 32) __syncthreads();
}

__global__ void two_barriers(float*) {  // threads wait at barriers on different lines
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}

__global__ void shuffle_of_some(float* data) {
  if (threadIdx.x % 2) data[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 2);
}

__global__ void shuffle_from_outside_the_mask(float* data) {
  if (threadIdx.x % 2) data[threadIdx.x] = __shfl_xor_sync(0xaaaaaaaau, 1.0f, 1);
}

__global__ void barrier_against_warp_barrier(float*) {
  if (threadIdx.x % 32 == 0)
    __syncthreads();
  else
    __syncwarp();
}

// The last block or thread decides the result, and the order is not defined.
__global__ void order_of_blocks(float* data) { data[0] = blockIdx.x; }
__global__ void order_of_threads(float* data) { data[0] = threadIdx.x; }

__global__ void reads_before_barrier(float* data) {
  static __shared__ float values[64];
  values[threadIdx.x] = threadIdx.x;
  data[threadIdx.x] = values[63 - threadIdx.x];
}

__global__ void uninitialised_shared(float* data) {
  static __shared__ float value;
  if (blockIdx.x == 0) value = 1;
  __syncthreads();
  data[blockIdx.x] = value;
}

}  // namespace

namespace steerlens {
extern __shared__ uint4 dynamic_shared_memory[];
}

namespace {

__global__ void beyond_dynamic_shared(float*) {
  reinterpret_cast<float*>(steerlens::dynamic_shared_memory)[threadIdx.x] = 0;
}

// Neighbouring threads use words of the same bank.
__global__ void bank_conflicts(float* data) {
  static __shared__ float values[64 * 32];
  values[threadIdx.x * 32] = threadIdx.x;
  __syncthreads();
  data[threadIdx.x] = values[threadIdx.x * 32];
}

__global__ void sound(float* data) {
  static __shared__ float values[64];
  values[threadIdx.x] = threadIdx.x;
  __syncthreads();
  const float other = values[63 - threadIdx.x];
  data[threadIdx.x] = __shfl_xor_sync(0xffffffffu, other, 1) + 100 * threadIdx.x;
}

// Half of the lanes skip the store in the first of two iterations. blockDim.y is 1, but the compiler does not know this.
// So it does not unroll the loop.
__global__ void skipped_accesses(float* data) {
  for (unsigned i = 0; i < 2 * blockDim.y; ++i) {
    if (i == 1 || threadIdx.x % 2 == 0) data[i * blockDim.x + threadIdx.x] = threadIdx.x;
    __syncthreads();
  }
}

using cooperative_groups::this_cluster;

// A variable in the shared memory of each block.
float& shared_value() {
  static __shared__ float value;
  return value;
}

// Writes the number of the next block of the cluster, read from that block's shared memory.
__global__ void sound_cluster(float* data) {
  const auto cluster = this_cluster();
  if (threadIdx.x == 0) shared_value() = blockIdx.x;
  cluster.sync();
  const unsigned next = (cluster.block_rank() + 1) % cluster.num_blocks();
  const float value = *cluster.map_shared_rank(&shared_value(), next);
  cluster.sync();
  if (threadIdx.x == 0) data[blockIdx.x] = value;
}

__global__ void cluster_barrier_of_some(float*) {
  if (threadIdx.x < 32) this_cluster().sync();
}

__global__ void cluster_barrier_without_a_block(float*) {
  if (this_cluster().block_rank() != 1) this_cluster().sync();
}

__global__ void cluster_barrier_against_barrier(float*) {
  if (this_cluster().block_rank() == 1)
    this_cluster().sync();
  else
    __syncthreads();
}

// The blocks wait at barriers on different lines, which the emulation rejects.
__global__ void two_cluster_barriers(float*) {
  if (this_cluster().block_rank() == 1)
    this_cluster().sync();
  else
    this_cluster().sync();
}

// The other block may have ended when it is read.
__global__ void ends_while_read(float* data) {
  if (threadIdx.x == 0) shared_value() = blockIdx.x;
  this_cluster().sync();
  data[blockIdx.x] =
      *this_cluster().map_shared_rank(&shared_value(), 1 - this_cluster().block_rank());
}

// The other block may not have begun.
__global__ void reads_before_start(float* data) {
  data[blockIdx.x] =
      *this_cluster().map_shared_rank(&shared_value(), 1 - this_cluster().block_rank());
  this_cluster().sync();
}

__global__ void reads_beyond_cluster(float* data) {
  this_cluster().sync();
  data[blockIdx.x] = *this_cluster().map_shared_rank(&shared_value(), 2);
  this_cluster().sync();
}

__global__ void maps_global_memory(float* data) {
  this_cluster().sync();
  *this_cluster().map_shared_rank(data, 1 - this_cluster().block_rank()) = 1;
  this_cluster().sync();
}

// A barrier is missing between the second write and the read.
__global__ void reads_before_cluster_barrier(float* data) {
  if (threadIdx.x == 0) shared_value() = 0;
  this_cluster().sync();
  if (threadIdx.x == 0) shared_value() = 1;
  const float value =
      *this_cluster().map_shared_rank(&shared_value(), 1 - this_cluster().block_rank());
  this_cluster().sync();
  if (threadIdx.x == 0) data[blockIdx.x] = value;
}

// Copies the real parts of complex planes.
template <int kPieces, int kPieceSize, int kPlanes, int kArea>
__global__ void real_parts(float* data) {
  using namespace steerlens;
  const auto* complex_planes = reinterpret_cast<const Cplx<float>*>(data);
  const Pieces<kPieces, kPieceSize> at(blockIdx.y, kArea, warp_in_row());
  const auto in = load(complex_planes, at);
  Pack<float, at.kCount> out;
  for (int j = 0; j < at.kCount; ++j) out.v[j] = in.v[j].re;
  store(data + 2 * kPlanes * kArea, at, out);
}

struct Case {
  void (*kernel)(float*);
  dim3 grid, block;
  size_t shared = 0;
  unsigned cluster = 1;
};

const std::map<std::string, Case> cases = {
    {"misaligned_load", {misaligned_load, 1, 1}},
    {"misaligned_store", {misaligned_store, 1, 1}},
    {"barrier_of_some", {barrier_of_some, 2, 64}},
    {"two_barriers", {two_barriers, 1, 64}},
    {"shuffle_of_some", {shuffle_of_some, 1, 32}},
    {"shuffle_of_part_of_a_warp", {sound, 1, 60}},
    {"shuffle_from_outside_the_mask", {shuffle_from_outside_the_mask, 1, 32}},
    {"barrier_against_warp_barrier", {barrier_against_warp_barrier, 1, 64}},
    {"order_of_blocks", {order_of_blocks, 1000, 1}},
    {"order_of_threads", {order_of_threads, 1, 64}},
    {"reads_before_barrier", {reads_before_barrier, 1, 64}},
    {"uninitialised_shared", {uninitialised_shared, 2, 32}},
    {"sound", {sound, 1, 64}},
    {"large_block", {sound, 1, 1025}},
    {"deep_block", {sound, 1, dim3(1, 1, 65)}},
    {"no_block", {sound, 1, 0}},
    {"tall_grid", {sound, dim3(1, 65536), 64}},
    {"no_grid", {sound, 0, 64}},
    {"bank_conflicts", {bank_conflicts, 1, 64}},
    {"skipped_accesses", {skipped_accesses, 1, 64}},
    {"wide_pieces", {real_parts<2, 2, 1, 256>, 1, 64}},
    {"planes_share_a_sector", {real_parts<1, 1, 2, 138>, dim3(1, 2), 160}},
    {"beyond_dynamic_shared", {beyond_dynamic_shared, 1, 64, 63 * sizeof(float)}},
    {"much_shared", {sound, 1, 64, 48 << 10}},  // the limit; static memory is added
    {"sound_cluster", {sound_cluster, 16, 64, 0, 8}},
    {"large_cluster", {sound_cluster, 18, 64, 0, 9}},
    {"no_cluster", {sound_cluster, 8, 64, 0, 0}},
    {"grid_of_part_of_a_cluster", {sound_cluster, 7, 64, 0, 2}},
    {"cluster_barrier_of_some", {cluster_barrier_of_some, 4, 64, 0, 2}},
    {"cluster_barrier_without_a_block", {cluster_barrier_without_a_block, 3, 64, 0, 3}},
    {"cluster_barrier_against_barrier", {cluster_barrier_against_barrier, 2, 32, 0, 2}},
    {"two_cluster_barriers", {two_cluster_barriers, 2, 32, 0, 2}},
    {"ends_while_read", {ends_while_read, 2, 32, 0, 2}},
    {"reads_before_start", {reads_before_start, 2, 32, 0, 2}},
    {"reads_beyond_cluster", {reads_beyond_cluster, 2, 32, 0, 2}},
    {"maps_global_memory", {maps_global_memory, 2, 32, 0, 2}},
    {"reads_before_cluster_barrier", {reads_before_cluster_barrier, 2, 1, 0, 2}},
};

}  // namespace

// Runs a case and returns its error, or "" if there is none.
extern "C" __attribute__((visibility("default"))) const char* run_case(const char* name,
                                                                       float* data) {
  static thread_local std::string error;
  error.clear();
  const Case& c = cases.at(name);
  cudaLaunchConfig_t config;
  config.gridDim = c.grid;
  config.blockDim = c.block;
  config.dynamicSmemBytes = c.shared;
  cudaLaunchAttribute cluster{cudaLaunchAttributeClusterDimension, {{c.cluster, 1, 1}}};
  config.attrs = &cluster;
  config.numAttrs = 1;
  try {
    cudaLaunchKernelEx(&config, c.kernel, data);
  } catch (const std::runtime_error& e) {
    error = e.what();
  }
  return error.c_str();
}
