// Parallel loops on torch's thread pool.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cstdint>

namespace steerlens {

// How often parallel_rows has been called in this process, for tests: each call may wait for threads that a busy
// machine does not run.
inline std::atomic<int64_t> parallel_regions{0};

// A task of fewer elements costs less than waking a thread for it.
constexpr int64_t kElementsPerTask = 16384;

// Calls body(begin, end) for ranges of [0, rows), on torch's threads; a row has `elements` elements. torch
// passes on an exception that is thrown inside a task.
template <typename Body>
void parallel_rows(int64_t rows, int64_t elements, const Body& body) {
  const int64_t grain = 1 + kElementsPerTask / (1 + elements);
  parallel_regions.fetch_add(1, std::memory_order_relaxed);
  torch::stable::parallel_for(0, rows, grain, body);
}

}  // namespace steerlens
