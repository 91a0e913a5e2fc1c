// How vectors of results are written: with ordinary or with non-temporal stores.
#pragma once

#include "../../memory.h"
#include "simd.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

SL_FN void stream_vec(float* to, FloatVec value) {
#if STEERLENS_SIMD_WIDTH == 16
  _mm512_stream_ps(to, reinterpret_cast<__m512>(value));
#elif STEERLENS_SIMD_WIDTH == 8
  _mm256_stream_ps(to, reinterpret_cast<__m256>(value));
#else
  store_vec(to, value);
#endif
}

SL_FN bool begins_cache_line(const float* at) {
  return reinterpret_cast<uint64_t>(at) % kCacheLine == 0;
}

// Non-temporal stores are used for whole cache lines only: half a line may be written to memory before its other
// half arrives, and then costs a read and a second write (205 instead of 19 ms with vectors of eight floats). A
// single vector of eight floats is therefore written with an ordinary store.
struct StreamingVecWriter {
  bool streamed;  // the result is larger than the caches (memory.h); the executor ends the stream

  SL_FN explicit StreamingVecWriter(int64_t result_bytes)
      : streamed(result_bytes > kStreamedBytes) {}

  // The first `count` floats of a vector.
  SL_FN void write(float* to, FloatVec value, int64_t count) const {
    if (sizeof(FloatVec) == kCacheLine && streamed && count >= kSimdWidth && begins_cache_line(to))
      stream_vec(to, value);
    else
      store_vec(to, value, count);
  }

  // The first `count` floats of two consecutive vectors.
  SL_FN void write_two(float* to, FloatVec first, FloatVec second, int64_t count) const {
    if (sizeof(FloatVec) < kCacheLine && streamed && count >= 2 * kSimdWidth &&
        begins_cache_line(to)) {
      stream_vec(to, first);
      stream_vec(to + kSimdWidth, second);
      return;
    }
    write(to, first, count);
    write(to + kSimdWidth, second, count - kSimdWidth);
  }
};

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
