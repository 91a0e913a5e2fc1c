#include "without_torch.h"

#include <algorithm>
#include <new>
#include <thread>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/scratch_memory.h"

namespace steerlens {
namespace {

int threads_of_loops = 1;
constexpr std::align_val_t kAlignment{64};  // the same as in torch's allocator

}  // namespace

void set_num_threads(int threads) { threads_of_loops = threads; }

int64_t num_threads() { return threads_of_loops; }

// As in torch, there are at most as many ranges as threads.
void parallel_ranges(int64_t count, int64_t grain,
                     void (*body)(const void* context, int64_t begin, int64_t end),
                     const void* context) {
  const int64_t size = std::max(grain, (count + num_threads() - 1) / num_threads());
  std::vector<std::thread> threads;
  for (int64_t begin = size; begin < count; begin += size)
    threads.emplace_back(body, context, begin, std::min(begin + size, count));
  if (count > 0) body(context, 0, std::min(size, count));
  for (std::thread& thread : threads) thread.join();
}

ScratchMemory::ScratchMemory(int64_t bytes)
    : block_(::operator new(static_cast<size_t>(bytes), kAlignment)), data_(block_) {}

ScratchMemory::~ScratchMemory() { ::operator delete(block_, kAlignment); }

}  // namespace steerlens
