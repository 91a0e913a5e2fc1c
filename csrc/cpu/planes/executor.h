// How threads share the work on many planes.
//
// An op describes the work on one plane as stages. A stage consists of independent tasks, such as some rows of an FFT,
// or whole frames. An executor runs them: on one thread, which has the plane to itself, or on all threads, which share
// it. The results are the same bit for bit.
//
// All stages run in one parallel region of torch's threads. A region for each stage would be slow on a busy machine,
// because a region ends only when all its threads have run.
#pragma once

#include <algorithm>
#include <atomic>
#include <optional>
#include <stdexcept>
#include <thread>

#include "../../compiler.h"
#include "../../streaming_stores.h"
#include "../parallel.h"
#include "workspace.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// One thread has a plane to itself.
template <typename T>
struct SerialExecutor {
  FftScratch<T>& scratch;

  // Calls task(i, scratch) for i in [0, count).
  template <typename Task>
  void run(int64_t count, const Task& task) const {
    for (int64_t i = 0; i < count; ++i) task(i, scratch);
  }

  // Calls task(i, workspace, executor) for i in [0, count): large tasks, which have stages of their own.
  template <typename Task>
  void run_large(int64_t count, const Workspace<T>& workspace, const Task& task) const {
    for (int64_t i = 0; i < count; ++i) task(i, workspace, *this);
  }
};

// How many tasks have been claimed and done, counted through all stages.
struct TaskCounts {
  alignas(64) std::atomic<int64_t> claimed{0};
  alignas(64) std::atomic<int64_t> done{0};
};

// All threads share a plane. Each thread runs the op's code through all stages, with an executor of its own. In every
// stage, the threads that have arrived claim tasks, several at a time, until none are left. So a thread waits only for
// tasks that others are running, never for a thread that has not started.
//
// A task that throws counts as done; parallel_ranges rethrows the exception when all threads have finished.
template <typename T>
class SharedExecutor {
 public:
  // If `thread_workspace` is given, the thread runs large tasks as a whole, in this workspace.
  SharedExecutor(TaskCounts& counts, int64_t threads, FftScratch<T>& scratch,
                 std::optional<Workspace<T>> thread_workspace)
      : counts_(counts),
        threads_(threads),
        scratch_(scratch),
        thread_workspace_(thread_workspace) {}

  template <typename Task>
  void run(int64_t count, const Task& task) const {
    const int64_t first = end_;
    end_ += count;
    run_claimed(first, 1 + count / (8 * threads_), task);  // about 8 claims of each thread
    for (int64_t tries = 0; counts_.done.load(std::memory_order_acquire) < end_; ++tries)
      if (tries < kTriesBeforeYield)
        SL_PAUSE();
      else
        std::this_thread::yield();
  }

  template <typename Task>
  void run_large(int64_t count, const Workspace<T>& workspace, const Task& task) const {
    if (thread_workspace_)
      run(count, [&](int64_t i, FftScratch<T>& scratch) {
        task(i, *thread_workspace_, SerialExecutor<T>{scratch});
      });
    else
      for (int64_t i = 0; i < count; ++i) task(i, workspace, *this);
  }

 private:
  // Other threads wait for the count. So the destructor counts, also if a task throws.
  struct MarkDone {
    TaskCounts& counts;
    int64_t tasks;
    ~MarkDone() { counts.done.fetch_add(tasks, std::memory_order_release); }
  };

  static constexpr int64_t kTriesBeforeYield = 200;  // some microseconds: most waits are shorter

  // Claims tasks of the stage that begins at `first`, `size` at a time, and runs them, until none is left.
  template <typename Task>
  void run_claimed(int64_t first, int64_t size, const Task& task) const {
    int64_t next;
    while ((next = counts_.claimed.load(std::memory_order_relaxed)) < end_) {
      const int64_t end = std::min(next + size, end_);
      if (!counts_.claimed.compare_exchange_weak(next, end, std::memory_order_relaxed)) continue;
      const MarkDone mark{counts_, end - next};
      for (int64_t i = next; i < end; ++i) task(i - first, scratch_);
    }
  }

  TaskCounts& counts_;
  int64_t threads_;
  FftScratch<T>& scratch_;
  std::optional<Workspace<T>> thread_workspace_;
  mutable int64_t end_ = 0;  // the number of tasks in all stages so far
};

// What the work on one item needs. An item is one plane, or all planes of a sample.
struct ItemNeeds {
  int64_t extra = 0;        // vectors of Workspace::extra
  int64_t large_tasks = 0;  // number of tasks that the op passes to run_large
  int64_t planes = 1;       // number of planes

  template <typename T>
  int64_t items(const PlaneArgs<T>& args) const {
    return args.count / planes;
  }
};

// The work on one plane: the number of points of its transforms.
template <typename T>
inline int64_t points_per_plane(const PlaneArgs<T>& args) {
  int64_t points = args.H * args.W;
  for (const PlaneGroup<T>& group : args.groups) points += group.transforms() * group.h * group.w;
  return points;
}

// If a workspace has more vectors than this (32 MiB), threads share one.
constexpr int64_t kMaxVectorsPerThread = (int64_t{32} << 20) / kVecBytes;

template <typename T>
inline bool large_workspace(const PlaneArgs<T>& args, int64_t extra) {
  return WorkspaceMemory<T>::vectors(args, extra) > kMaxVectorsPerThread;
}

// Whether all threads are busy for most of the time if each takes whole items.
inline bool divides_evenly(int64_t items, int64_t threads) {
  return items % threads == 0 || items >= 4 * threads;
}

// Whether threads share at least the last items (share_items). Threads share items if one workspace per thread would
// need too much memory. Threads also share items if whole items would leave some threads idle, and one plane has enough
// work for all threads.
template <typename T>
inline bool threads_share_items(const PlaneArgs<T>& args, const ItemNeeds& needs) {
  const int64_t threads = num_threads();
  const bool uneven = !divides_evenly(needs.items(args), threads);
  const bool enough_work =
      blocks_of<T>(std::min(args.H, args.W)) >= 2 * threads && args.H * args.W >= kElementsPerTask;
  return threads > 1 && ((uneven && enough_work) || large_workspace(args, needs.extra));
}

// Like parallel_rows, but calls body(thread, begin, end) and then end_stream(). Each call has another `thread`, an index
// below `threads`.
template <typename Body>
void for_each_thread(int64_t threads, int64_t rows, int64_t elements, const Body& body) {
  std::atomic<int64_t> next{0};  // torch makes at most as many ranges as there are threads
  parallel_rows(rows, elements, [&](int64_t begin, int64_t end) {
    const int64_t thread = next.fetch_add(1);
    if (thread >= threads) throw std::logic_error("more ranges than threads");
    body(thread, begin, end);
    end_stream();
  });
}

// Calls work(n, workspace, executor) for each item n. If each thread has a workspace, threads take whole items as long
// as there are enough items for all. Threads share the remaining items.
//
// The first workspace holds the shared item. Thread 0 also runs large tasks in this workspace. Large tasks must not
// overwrite `extra`, which has the coefficients of the item.
template <typename T, typename Work>
void share_items(const PlaneArgs<T>& args, const FftTables<T>& ffts, const Work& work,
                 const ItemNeeds& needs) {
  const int64_t threads = num_threads();
  const bool workspace_per_thread = !large_workspace(args, needs.extra);
  const bool large_tasks_per_thread =
      workspace_per_thread && needs.large_tasks > 0 && divides_evenly(needs.large_tasks, threads);
  const int64_t count = needs.items(args),
                whole = workspace_per_thread ? count - count % threads : 0;
  const WorkspaceMemory<T> memory(args, needs.extra, workspace_per_thread ? threads : 1);
  TaskCounts counts;
  // One "row" for each thread, so large that parallel_rows makes it a range of its own.
  for_each_thread(threads, threads, kElementsPerTask, [&](int64_t thread, int64_t, int64_t) {
    const Workspace<T> workspace = memory.of(workspace_per_thread ? thread : 0);
    const SharedExecutor<T> executor(
        counts, threads, thread_scratch<T>(ffts.max_size()),
        large_tasks_per_thread ? std::optional(workspace) : std::nullopt);
    executor.run(whole, [&](int64_t n, FftScratch<T>& scratch) {
      work(n, workspace, SerialExecutor<T>{scratch});
    });
    for (int64_t n = whole; n < count; ++n) work(n, memory.of(0), executor);
  });
}

// Calls work(n, workspace, executor) for each item n.
template <typename T, typename Work>
void for_each_item(const PlaneArgs<T>& args, const FftTables<T>& ffts, const Work& work,
                   const ItemNeeds& needs = {}) {
  if (threads_share_items(args, needs)) return share_items(args, ffts, work, needs);
  const int64_t count = needs.items(args), threads = std::min<int64_t>(num_threads(), count);
  const WorkspaceMemory<T> memory(args, needs.extra, threads);
  for_each_thread(threads, count, needs.planes * points_per_plane(args),
                  [&](int64_t thread, int64_t begin, int64_t end) {
                    const SerialExecutor<T> executor{thread_scratch<T>(ffts.max_size())};
                    for (int64_t n = begin; n < end; ++n) work(n, memory.of(thread), executor);
                  });
}

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
