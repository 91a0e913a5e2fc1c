// Parallel loops on torch's threads, for code that does not include torch.
#pragma once

#include <cstdint>

namespace steerlens {

// Tasks with fewer elements take less time than waking a thread.
constexpr int64_t kElementsPerTask = 16384;

// Calls body(context, begin, end) on torch's threads, for ranges of [0, count) with roughly at least `grain` items. The
// first exception of a task is thrown again when all tasks have finished.
void parallel_ranges(int64_t count, int64_t grain,
                     void (*body)(const void* context, int64_t begin, int64_t end),
                     const void* context);

int64_t num_threads();

// The number of parallel loops that this process has started. Tests check that ops start few, since each may wait for
// threads on a busy machine.
int64_t parallel_regions();

// Calls body(begin, end) for ranges of [0, rows); a row has `elements` elements.
template <typename Body>
void parallel_rows(int64_t rows, int64_t elements, const Body& body) {
  const auto call = [](const void* context, int64_t begin, int64_t end) {
    (*static_cast<const Body*>(context))(begin, end);
  };
  parallel_ranges(rows, 1 + kElementsPerTask / (1 + elements), call, &body);
}

}  // namespace steerlens
