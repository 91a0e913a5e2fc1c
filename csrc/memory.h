// Huge pages and streaming (non-temporal) stores for large CPU tensors.
//
// Writing a new tensor mostly consists of page faults. Larger pages cause fewer: writing 38 MB took 48 ms in pages of 4
// KiB, and 5 ms in pages of 2 MiB.
#pragma once

#include "math/common.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace steerlens {

constexpr uint64_t kHugePage = uint64_t{1} << 21, kCacheLine = 64;

// Larger results are written with non-temporal stores, since caches would evict them before they are read.
constexpr int64_t kStreamedBytes = int64_t{16} << 20;

// The whole huge pages in [data, data + bytes).
struct HugePages {
  void* first;
  uint64_t bytes;

  HugePages(void* data, uint64_t bytes_of_data) {
    const uint64_t begin = reinterpret_cast<uint64_t>(data);
    const uint64_t start = (begin + kHugePage - 1) & ~(kHugePage - 1);
    const uint64_t end = (begin + bytes_of_data) & ~(kHugePage - 1);
    first = reinterpret_cast<void*>(start);
    bytes = end > start ? end - start : 0;
  }
};

// Asks the operating system for transparent huge pages in [data, data + bytes). It has no effect if huge pages are
// disabled, or where the memory has already been used.
inline void advise_huge_pages([[maybe_unused]] void* data, [[maybe_unused]] uint64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const HugePages pages(data, bytes);
  if (bytes >= 2 * kHugePage && pages.bytes > 0)
    (void)madvise(pages.first, pages.bytes, MADV_HUGEPAGE);
#endif
}

// Copies with non-temporal stores. An ordinary store would first read the cache line that it overwrites. The caller
// must call end_stream() before other threads read the result.
SL_INLINE void stream(char* to, const char* from, uint64_t bytes) {
#if defined(__SSE2__)
  constexpr uint64_t kVector = sizeof(__m128i);
  const uint64_t head = (kCacheLine - reinterpret_cast<uint64_t>(to) % kCacheLine) % kCacheLine;
  if (bytes > head + kCacheLine) {
    std::memcpy(to, from, head);
    uint64_t at = head;
    for (; at + kCacheLine <= bytes; at += kCacheLine)
      for (uint64_t i = at; i < at + kCacheLine; i += kVector)
        _mm_stream_si128(reinterpret_cast<__m128i*>(to + i),
                         _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
    std::memcpy(to + at, from + at, bytes - at);
    return;
  }
#endif
  std::memcpy(to, from, bytes);
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
  constexpr uint64_t kPiece = 1024;
  alignas(64) T piece[kPiece];
  for (uint64_t at = 0; at < count; at += kPiece) {
    const uint64_t size = count - at < kPiece ? count - at : kPiece;
    const T* source = from + at * stride;
    for (uint64_t i = 0; i < size; ++i) {
      const T x = source[i * stride], above = x < low ? low : x;
      piece[i] = above > high ? high : above;
    }
    stream(reinterpret_cast<char*>(to + at), reinterpret_cast<const char*>(piece),
           size * sizeof(T));
  }
  end_stream();
}

}  // namespace steerlens
