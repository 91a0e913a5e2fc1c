// How loops read and write complex numbers, and how blocks of results leave: into the tensor, or past
// the caches where it is larger than these.
#pragma once

#include "../math/common.h"
#include "../memory.h"
#include "clones.h"

#if STEERLENS_HAS_LEVELS
#include <immintrin.h>

STEERLENS_V4_BEGIN
namespace steerlens {
namespace {

// As stream, a line at a time.
void stream_lines(char* to, const char* from, uint64_t bytes) {
  uint64_t at = (kCacheLine - reinterpret_cast<uint64_t>(to) % kCacheLine) % kCacheLine;
  at = at < bytes ? at : bytes;
  std::memcpy(to, from, at);
  for (; at + kCacheLine <= bytes; at += kCacheLine)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + at), _mm512_loadu_si512(from + at));
  std::memcpy(to + at, from + at, bytes - at);
}

}  // namespace
}  // namespace steerlens
STEERLENS_LEVEL_END
#endif

namespace steerlens {

// By parts: copies of whole structs do not vectorise.
template <typename T>
SL_FN Cplx<T> parts(const Cplx<T>& z) {
  return {z.re, z.im};
}
SL_FN float parts(float x) { return x; }
SL_FN double parts(double x) { return x; }

template <typename T>
SL_FN void store(Cplx<T> value, Cplx<T>& to) {
  to.re = value.re;
  to.im = value.im;
}
template <typename T>
SL_FN void store(Cplx<T> value, T& to) {  // a real number
  to = value.re;
}

template <typename V>
SL_FN bool leaves_caches(int64_t count) {
  return count * static_cast<int64_t>(sizeof(V)) > kStreamedBytes;
}

template <typename V>
SL_FN void put_past(V* to, const V* from, int64_t count) {
  char* const target = reinterpret_cast<char*>(to);
  const char* const source = reinterpret_cast<const char*>(from);
#if STEERLENS_HAS_LEVELS
  if (__builtin_cpu_supports("x86-64-v4")) return stream_lines(target, source, count * sizeof(V));
#endif
  stream(target, source, count * sizeof(V));
}

// Whoever puts past the caches ends the stream: memory.h.
template <typename V>
SL_FN void put(V* to, const V* from, int64_t count, bool streamed) {
  if (streamed)
    put_past(to, from, count);
  else
    memcpy(to, from, count * sizeof(V));
}

// Where a loop writes a block: in place, or beside it and then past the caches.
template <typename V, int64_t kSize>
struct Outlet {
  alignas(64) V block[kSize];  // uninitialised
  const bool streamed;

  // `count`: of the whole tensor.
  SL_FN explicit Outlet(int64_t count) : streamed(leaves_caches<V>(count)) {}
  Outlet(const Outlet&) = delete;
  SL_FN ~Outlet() {
    if (streamed) end_stream();
  }

  SL_FN V* open(V* to) { return streamed ? block : to; }
  SL_FN void close(V* to, int64_t count) const {
    if (streamed) put_past(to, block, count);
  }
};

}  // namespace steerlens
