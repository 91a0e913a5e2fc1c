// How vectors of results are written: with ordinary or with non-temporal stores.
#pragma once

#include "../../streaming_stores.h"
#include "simd.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

template <typename T>
SL_FN void stream_vec(T* to, Vec<T> value) {
#if STEERLENS_SIMD_WIDTH == 16
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), reinterpret_cast<__m512i>(value));
#elif STEERLENS_SIMD_WIDTH == 8
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(value));
#else
  store_vec(to, value);
#endif
}

SL_FN bool begins_cache_line(const void* at) {
  return reinterpret_cast<uint64_t>(at) % kCacheLine == 0;
}

// Non-temporal stores are used only for whole cache lines, because half a line may be written to memory before its
// other half arrives, and then costs a second write. So a single vector that is half a line is written with an ordinary
// store. for_each_thread (executor.h) calls end_stream().
struct StreamingVecWriter {
  // Whether the result has more than kStreamedBytes.
  bool streamed;

  SL_FN explicit StreamingVecWriter(int64_t result_bytes)
      : streamed(result_bytes > kStreamedBytes) {}

  // The first `count` numbers of a vector.
  template <typename T>
  SL_FN void write(T* to, Vec<T> value, int64_t count) const {
    if (kVecBytes == kCacheLine && streamed && count >= kSimdWidth<T> && begins_cache_line(to))
      stream_vec(to, value);
    else
      store_vec(to, value, count);
  }

  // The first `count` numbers of two consecutive vectors.
  template <typename T>
  SL_FN void write_two(T* to, Vec<T> first, Vec<T> second, int64_t count) const {
    if (kVecBytes < kCacheLine && streamed && count >= 2 * kSimdWidth<T> && begins_cache_line(to)) {
      stream_vec(to, first);
      stream_vec(to + kSimdWidth<T>, second);
      return;
    }
    write(to, first, count);
    write(to + kSimdWidth<T>, second, count - kSimdWidth<T>);
  }
};

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
