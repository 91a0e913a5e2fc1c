// Streaming (non-temporal) stores, which bypass the caches, for large results.
#pragma once

#include "math/common.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace steerlens {

constexpr uint64_t kCacheLine = 64;

// Results larger than this are written with non-temporal stores: caches would evict them before they are read.
constexpr int64_t kStreamedBytes = int64_t{16} << 20;

#if defined(__SSE2__)
// `to` must be the beginning of a cache line.
SL_INLINE void stream_cache_line(char* to, const char* from) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), _mm512_loadu_si512(from));
#else
  constexpr uint64_t kVector = sizeof(__m128i);
  for (uint64_t i = 0; i < kCacheLine; i += kVector)
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
#endif
}
#endif

// Copies with non-temporal stores. An ordinary store would first read the cache line that it overwrites. The caller
// must call end_stream() before other threads read the result.
SL_INLINE void stream(char* to, const char* from, uint64_t bytes) {
  uint64_t at = 0;
#if defined(__SSE2__)
  at = (kCacheLine - reinterpret_cast<uint64_t>(to) % kCacheLine) % kCacheLine;
  at = at < bytes ? at : bytes;
  std::memcpy(to, from, at);
  for (; at + kCacheLine <= bytes; at += kCacheLine) stream_cache_line(to + at, from + at);
#endif
  std::memcpy(to + at, from + at, bytes - at);
}

// Orders this thread's streaming stores before its later stores.
SL_INLINE void end_stream() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

inline void stream_copy(char* to, const char* from, uint64_t bytes) {
  stream(to, from, bytes);
  end_stream();
}

// Writes values, clipped to [low, high], with non-temporal stores. With a stride of 2, `from` holds complex values,
// and their real parts are written. NaN stays NaN.
template <typename T>
void stream_real(T* to, const T* from, uint64_t count, int stride, T low, T high) {
  constexpr uint64_t kPieceSize = 1024;
  alignas(64) T piece[kPieceSize];
  for (uint64_t at = 0; at < count; at += kPieceSize) {
    const uint64_t size = count - at < kPieceSize ? count - at : kPieceSize;
    const T* source = from + at * stride;
    for (uint64_t i = 0; i < size; ++i) {
      const T x = source[i * stride], at_least_low = x < low ? low : x;
      piece[i] = at_least_low > high ? high : at_least_low;
    }
    stream(reinterpret_cast<char*>(to + at), reinterpret_cast<const char*>(piece),
           size * sizeof(T));
  }
  end_stream();
}

}  // namespace steerlens
