// Memory of one thread for its FFTs.
#pragma once

#include <memory>

#include "simd.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

struct FftScratch {
  explicit FftScratch(int64_t max_size)
      : max_size(max_size),
        line(new ComplexVec[2 * (max_size + kSimdWidth)]),
        ping(new ComplexVec[max_size]),
        pong(new ComplexVec[max_size]) {}

  int64_t max_size;  // the longest transform that it has room for
  // For the caller: the row or column that a transform reads, with room for two padded ones.
  std::unique_ptr<ComplexVec[]> line;
  // The passes of a transform read one and write the other, alternately.
  std::unique_ptr<ComplexVec[]> ping, pong;
};

// This thread's scratch memory, kept for the next call.
inline FftScratch& thread_scratch(int64_t max_size) {
  thread_local FftScratch scratch(0);
  if (scratch.max_size < max_size) scratch = FftScratch(max_size);
  return scratch;
}

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
