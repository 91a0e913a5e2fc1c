// The largest value among the threads of a warp, or of a block; NaN is ignored, as in larger().
#pragma once

#include "../math/polar.h"
#include "launch.h"

namespace steerlens {

template <typename T>
__device__ T largest_of_warp(T largest) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2)
    largest = larger(__shfl_xor_sync(0xffffffffu, largest, mask), largest);
  return largest;
}

namespace {

// Shared variables are not defined in templates, since GCC would ignore that they are shared (tests/emulation).
__device__ __forceinline__ void* memory_of_warps() {
  static __shared__ double memory[kWarp];
  return memory;
}

}  // namespace

// For blocks of whole warps.
template <typename T>
__device__ T largest_of_block(T largest) {
  T* const of_warps = static_cast<T*>(memory_of_warps());
  __syncthreads();  // until all threads have read the results of an earlier call
  largest = largest_of_warp(largest);
  if (threadIdx.x % kWarp == 0) of_warps[threadIdx.x / kWarp] = largest;
  __syncthreads();
  const unsigned lane = threadIdx.x % kWarp;
  return largest_of_warp(lane < blockDim.x / kWarp ? of_warps[lane] : T(0));
}

}  // namespace steerlens
