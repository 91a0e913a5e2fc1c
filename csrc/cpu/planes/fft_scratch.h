// Memory of one thread for its FFTs.
#pragma once

#include <memory>

#include "simd.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

template <typename T>
struct FftScratch {
  explicit FftScratch(int64_t max_size)
      : max_size(max_size),
        line(new ComplexVec<T>[2 * (max_size + kSimdWidth<T>)]),
        ping(new ComplexVec<T>[max_size]),
        pong(new ComplexVec<T>[max_size]) {}

  int64_t max_size;  // the longest transform that it has room for
  // For the caller: the row or column that a transform reads, with room for two padded ones.
  std::unique_ptr<ComplexVec<T>[]> line;
  // The passes of a transform read one and write the other, alternately.
  std::unique_ptr<ComplexVec<T>[]> ping, pong;
};

// This thread's scratch memory, kept for the next call.
template <typename T>
inline FftScratch<T>& thread_scratch(int64_t max_size) {
  thread_local FftScratch<T> scratch(0);
  if (scratch.max_size < max_size) scratch = FftScratch<T>(max_size);
  return scratch;
}

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
