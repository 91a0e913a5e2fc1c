// How threads share the work on many planes. An op describes the work on one plane as tasks, each a few rows or
// columns, and an executor runs them: on one thread, which has the plane for itself, or on all threads. The
// results are the same bit by bit.
#pragma once

#include <algorithm>
#include <atomic>
#include <stdexcept>

#include "../parallel.h"
#include "workspace.h"

STEERLENS_SIMD_BEGIN
namespace steerlens {
namespace {

// Calls task(i, scratch) for i in [0, count).
struct SerialExecutor {
  FftScratch& scratch;

  template <typename Task>
  void run(int64_t count, const Task& task) const {
    for (int64_t i = 0; i < count; ++i) task(i, scratch);
  }
};

// The same on all threads. Returns when all tasks are done.
struct ParallelExecutor {
  int64_t max_size;  // of a transform

  template <typename Task>
  void run(int64_t count, const Task& task) const {
    parallel_rows(count, max_size * kSimdWidth, [&](int64_t begin, int64_t end) {
      FftScratch& scratch = thread_scratch(max_size);
      for (int64_t i = begin; i < end; ++i) task(i, scratch);
      end_stream();
    });
  }
};

// The work on one plane, in samples of its transforms.
inline int64_t samples_per_plane(const PlaneArgs& args) {
  int64_t samples = args.H * args.W;
  for (const PlaneGroup& group : args.groups) samples += group.transforms() * group.h * group.w;
  return samples;
}

// A workspace of more vectors than this (32 MiB) is not allocated for each thread.
constexpr int64_t kMaxVectorsPerThread = (int64_t{32} << 20) / sizeof(FloatVec);

// Whether all threads cooperate on one plane at a time: when handing out whole planes would leave some
// threads idle and one plane has enough tasks for all of them, or when one workspace per thread would need
// too much memory.
inline bool threads_share_planes(const PlaneArgs& args, int64_t extra) {
  const int64_t planes = args.count, threads = torch::stable::get_num_threads();
  const bool uneven = planes % threads != 0 && planes < 4 * threads;
  const bool enough_tasks = blocks_of(std::min(args.H, args.W)) >= 2 * threads;
  const bool large = WorkspaceMemory::vectors(args, extra) > kMaxVectorsPerThread;
  return threads > 1 && ((uneven && enough_tasks) || large);
}

// Calls work(n, workspace, executor) for each plane n; a workspace has `extra` vectors for the op's own use.
template <typename Work>
void for_each_plane(const Tensor& like, const PlaneArgs& args, const FftTables& ffts,
                    const Work& work, int64_t extra = 0) {
  if (threads_share_planes(args, extra)) {
    WorkspaceMemory memory(like, args, extra, 1);
    const ParallelExecutor executor{ffts.max_size()};
    for (int64_t n = 0; n < args.count; ++n) work(n, memory.of(0), executor);
    return;
  }
  const int64_t threads = std::min<int64_t>(torch::stable::get_num_threads(), args.count);
  WorkspaceMemory memory(like, args, extra, threads);
  std::atomic<int64_t> next{0};  // torch makes at most as many ranges as there are threads
  parallel_rows(args.count, samples_per_plane(args), [&](int64_t begin, int64_t end) {
    const int64_t thread = next.fetch_add(1);
    if (thread >= threads) throw std::logic_error("more ranges of planes than threads");
    const SerialExecutor executor{thread_scratch(ffts.max_size())};
    for (int64_t n = begin; n < end; ++n) work(n, memory.of(thread), executor);
    end_stream();
  });
}

}  // namespace
}  // namespace steerlens
STEERLENS_SIMD_END
