// Writes blocks of results: directly into the tensor or, if it is larger than the caches, with non-temporal stores
// (memory.h).
#pragma once

#include "../../math/common.h"
#include "../../memory.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

#if defined(__AVX512F__)
// Like stream() in memory.h, with one store for each cache line.
void stream_cache_lines(char* to, const char* from, uint64_t bytes) {
  uint64_t at = (kCacheLine - reinterpret_cast<uint64_t>(to) % kCacheLine) % kCacheLine;
  at = at < bytes ? at : bytes;
  std::memcpy(to, from, at);
  for (; at + kCacheLine <= bytes; at += kCacheLine)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + at), _mm512_loadu_si512(from + at));
  std::memcpy(to + at, from + at, bytes - at);
}
#else
void stream_cache_lines(char* to, const char* from, uint64_t bytes) { stream(to, from, bytes); }
#endif

// Whether a tensor of `count` values of type V is written with non-temporal stores.
template <typename V>
SL_FN bool exceeds_caches(int64_t count) {
  return count * static_cast<int64_t>(sizeof(V)) > kStreamedBytes;
}

// The caller must call end_stream() after its last block.
template <typename V>
SL_FN void stream_block(V* to, const V* from, int64_t count) {
  stream_cache_lines(reinterpret_cast<char*>(to), reinterpret_cast<const char*>(from),
                     count * sizeof(V));
}

template <typename V>
SL_FN void copy_block(V* to, const V* from, int64_t count, bool streamed) {
  if (streamed)
    stream_block(to, from, count);
  else
    memcpy(to, from, count * sizeof(V));
}

// Provides the memory to which a loop writes a block of results: the tensor itself, or a buffer that flush() writes to
// the tensor with non-temporal stores. `buffer` is not initialised.
template <typename V, int64_t kSize>
struct StreamingWriter {
  alignas(64) V buffer[kSize];
  const bool streamed;

  // `count` is the number of values of the whole tensor.
  SL_FN explicit StreamingWriter(int64_t count) : streamed(exceeds_caches<V>(count)) {}
  StreamingWriter(const StreamingWriter&) = delete;
  SL_FN ~StreamingWriter() {
    if (streamed) end_stream();
  }

  SL_FN V* block(V* to) { return streamed ? buffer : to; }
  SL_FN void flush(V* to, int64_t count) const {
    if (streamed) stream_block(to, buffer, count);
  }
};

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
