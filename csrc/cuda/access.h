// Loads and stores of global memory, and which coefficients a thread of a pointwise kernel takes.
//
// The kernels are limited by memory traffic. So accesses should be wide, and those of a warp should cover whole sectors
// (32 bytes). For this, each thread takes *pieces* of one or two consecutive coefficients, and in each access the pieces
// of neighbouring threads lie side by side. A piece of float32 has two coefficients (16 bytes as complex numbers), or
// one if arrays are not aligned or a plane has an odd number of coefficients. A piece of float64 has one.
#pragma once

#include <cuda_runtime.h>

#include <cstring>

#include "../math/common.h"

namespace steerlens {

constexpr int kWarp = 32;
// float32 numbers in a sector. This many numbers of a larger type are whole sectors, too.
constexpr int64_t kPerSector = 8;

// Complex numbers in 16 bytes.
template <typename T>
constexpr int kWidePiece = 16 / sizeof(Cplx<T>);

constexpr size_t access_bytes(size_t bytes) { return bytes < 16 ? bytes : 16; }

// kCount values: one piece, which one access reads or writes, or all pieces of a thread.
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

// Reads through the read-only cache, since no kernel writes what it reads. So the compiler may move loads above stores
// and keep several in flight.
template <int kCount, typename V>
__device__ __forceinline__ Pack<V, kCount> load(const V* p) {
  using Word = typename WordOf<sizeof(Pack<V, kCount>)>::type;
  const Word word = __ldg(reinterpret_cast<const Word*>(p));
  Pack<V, kCount> pack;
  memcpy(&pack, &word, sizeof(pack));
  return pack;
}

template <typename V>
__device__ __forceinline__ V load_one(const V* p) {
  return load<1>(p).v[0];
}

// Uses an intrinsic, since nvcc would split an ordinary store under a condition into narrower ones.
template <typename V, int kCount>
__device__ __forceinline__ void store(V* p, const Pack<V, kCount>& pack) {
  using Word = typename WordOf<sizeof(Pack<V, kCount>)>::type;
  Word word;
  memcpy(&word, &pack, sizeof(word));
  __stwb(reinterpret_cast<Word*>(p), word);
}

template <typename V>
__device__ __forceinline__ void store_one(V* p, const V& value) {
  store(p, Pack<V, 1>{{value}});
}

// The coefficients of one plane that a thread takes together: kPieces pieces of kPieceSize consecutive
// coefficients. The coefficients of a warp are consecutive, too, and begin at a sector, even if the plane does not.
template <int kPieces, int kPieceSize>
struct Pieces {
  static constexpr int kCount = kPieces * kPieceSize;
  // From a piece of a thread to its next one; the pieces of the other lanes lie between them.
  static constexpr int kStep = kWarp * kPieceSize;

  int64_t first;
  bool inside[kPieces];  // pieces outside of the plane are neither read (they are 0) nor written

  // The pieces that warp `warp` takes of a plane. `area`, its number of coefficients, is a multiple of kPieceSize.
  __device__ __forceinline__ Pieces(int64_t plane, int64_t area, int64_t warp) {
    const int64_t begin = plane * area, lane = threadIdx.x % kWarp;
    const int64_t offset = warp * (kWarp * kCount) - begin % kPerSector + lane * kPieceSize;
    first = begin + offset;
#pragma unroll
    for (int i = 0; i < kPieces; ++i)
      inside[i] = offset + i * kStep >= 0 && offset + i * kStep < area;
  }
};

template <typename V, int kPieces, int kPieceSize>
__device__ __forceinline__ Pack<V, kPieces * kPieceSize> load(const V* p,
                                                              Pieces<kPieces, kPieceSize> pieces) {
  Pack<V, kPieces * kPieceSize> pack{};
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    if (!pieces.inside[i]) continue;
    const auto piece = load<kPieceSize>(p + pieces.first + i * pieces.kStep);
#pragma unroll
    for (int j = 0; j < kPieceSize; ++j) pack.v[i * kPieceSize + j] = piece.v[j];
  }
  return pack;
}

template <typename V, int kPieces, int kPieceSize>
__device__ __forceinline__ void store(V* p, Pieces<kPieces, kPieceSize> pieces,
                                      const Pack<V, kPieces * kPieceSize>& pack) {
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    Pack<V, kPieceSize> piece;
#pragma unroll
    for (int j = 0; j < kPieceSize; ++j) piece.v[j] = pack.v[i * kPieceSize + j];
    if (pieces.inside[i]) store(p + pieces.first + i * pieces.kStep, piece);
  }
}

// The number of warps for a plane if each thread takes kPerThread coefficients.
template <int kPerThread>
__host__ __device__ int64_t warps_of(int64_t area) {
  constexpr int64_t kPerWarp = kWarp * kPerThread;
  // The largest number of coefficients between the start of a sector and the start of the plane in it.
  const int64_t skipped = area % kPerSector ? kPerSector - 1 : 0;
  return (skipped + area + kPerWarp - 1) / kPerWarp;
}

// The warp's number in its row of the grid.
__device__ inline int64_t warp_in_row() {
  return (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp;
}

}  // namespace steerlens
