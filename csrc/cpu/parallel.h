// How the CPU loops are cut into tasks for torch's thread pool.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>

namespace steerlens {

// About this many elements are worth waking a thread for.
constexpr int64_t kElementsPerTask = 16384;

// Runs body(begin, end) over `rows` rows of `elements` each, on torch's threads. A failure inside a
// task is torch's to report.
template <typename Body>
void parallel_rows(int64_t rows, int64_t elements, const Body& body) {
  const int64_t grain = 1 + kElementsPerTask / (1 + elements);
  torch::stable::parallel_for(0, rows, grain, body);
}

}  // namespace steerlens
