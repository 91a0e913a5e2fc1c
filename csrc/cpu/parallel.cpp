#include "parallel.h"

#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <exception>

namespace steerlens {
namespace {

std::atomic<int64_t> regions{0};

}  // namespace

void parallel_ranges(int64_t count, int64_t grain,
                     void (*body)(const void* context, int64_t begin, int64_t end),
                     const void* context) {
  regions.fetch_add(1, std::memory_order_relaxed);
  // If body() throws within torch's loop, torch throws another exception, without its type and text. So the first
  // exception is kept, and thrown again after the loop.
  std::exception_ptr error;
  std::atomic_flag has_error = ATOMIC_FLAG_INIT;
  torch::stable::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    try {
      body(context, begin, end);
    } catch (...) {
      if (!has_error.test_and_set()) error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
}

int64_t num_threads() { return torch::stable::get_num_threads(); }

int64_t parallel_regions() { return regions.load(std::memory_order_relaxed); }

}  // namespace steerlens
