// Writes blocks of results: directly into the tensor or, if it has more than kStreamedBytes, with non-temporal stores
// (streaming_stores.h).
#pragma once

#include "../../math/common.h"
#include "../../streaming_stores.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// Whether a tensor of `count` values of type V is written with non-temporal stores.
template <typename V>
SL_FN bool exceeds_caches(int64_t count) {
  return count * static_cast<int64_t>(sizeof(V)) > kStreamedBytes;
}

// If `streamed`, the caller must call end_stream() after its last block.
template <typename V>
SL_FN void copy_block(V* to, const V* from, int64_t count, bool streamed) {
  if (streamed)
    stream(reinterpret_cast<char*>(to), reinterpret_cast<const char*>(from), count * sizeof(V));
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
    if (streamed) copy_block(to, buffer, count, true);
  }
};

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
