// The filters of a unit as its kernels apply them.
#pragma once

#include "../reduce.h"
#include "spectra.h"

namespace steerlens {
namespace {

// The filter of a transform at row y and column x: i^i_power times the band's mask, from unit.masks. If two real bands
// with masks m and m' share the transform, the filter is i^i_power (m + i sign m'). For a real band stored by half rows,
// only the filter's Hermitian part counts: its mean with the conjugate filter at the opposite frequency.
__device__ __forceinline__ Cplx<float> filter_at(const Unit& unit, int transform, int y, int x,
                                                 float sign) {
  const int w = unit.w(), h = unit.h(), area = h * w, at = y * w + x;
  const Cplx<float> factor = power_of_i<float>(unit.i_power);
  const bool paired = unit.content == Content::kPair;
  const float* mask = unit.masks + int64_t{paired ? 2 * transform : transform} * area;
  const float first = load_one(mask + at);
  if (unit.content == Content::kComplex) return first * factor;
  if (paired) {
    const float second = 2 * transform + 1 < unit.bands ? load_one(mask + area + at) : 0.0f;
    return Cplx<float>{first, sign * second} * factor;
  }
  const int opposite =
      static_cast<int>(opposite_row(y, h)) * w + static_cast<int>(opposite_row(x, w));
  return 0.5f * (first * factor + load_one(mask + opposite) * conj(factor));
}

// A block that transforms a row of planes, and the opposite row, has two *tasks* for each transform of a unit: task 2 i is
// the i-th transform at the row, task 2 i + 1 at the opposite row. Returns the row of the band, or -1 if there is no task.
__device__ __forceinline__ int task_row(const Unit& unit, int task, int row, int H) {
  const int opposite = static_cast<int>(opposite_row(row, H));
  const bool mirrored = task % 2;
  if (mirrored && (opposite == row || unit.content == Content::kHalf)) return -1;
  return static_cast<int>(band_row(mirrored ? opposite : row, unit.h(), H));
}

// What the analysis multiplies a spectrum by.
struct AnalysisFilter {
  __device__ static Cplx<float> at(const Unit& unit, int i, int y, int x) {
    return filter_at(unit, i, y, x, 1.0f);
  }
  // Whether rows are stored even if the filter is 0 in them.
  __device__ static bool needs_zeros(const Unit& unit) { return unit.content == Content::kHalf; }
};

// What the synthesis multiplies a spectrum by. merge_rows_kernel adds a frequency and the conjugate of its opposite,
// each times 1/2. For half rows, it adds only the frequency, times 1.
struct SynthesisFilter {
  __device__ static Cplx<float> at(const Unit& unit, int i, int y, int x) {
    return (unit.content == Content::kHalf ? 1.0f : 0.5f) * filter_at(unit, i, y, x, -1.0f);
  }
  __device__ static bool needs_zeros(const Unit&) { return false; }
};

// How the kernels for rows share the work: a block takes kLines planes in each of `rounds` rounds, and keeps `words`
// values of filters in shared memory. See share_rows().
struct RowShare {
  int rounds, words;

  __host__ __device__ int planes() const { return rounds * kLines; }
  __device__ int end(int begin, int all) const {
    return all - begin < planes() ? all : begin + planes();
  }
};

// The shared memory of these kernels: that of an FFT, `width` values of a filter that is not kept, the places of kMaxKept
// filters, and the filters that are kept.
constexpr int kMaxKept = 128;
constexpr int kPlaceWords = kMaxKept * sizeof(short) / sizeof(Word);
inline size_t row_bytes(int width, int words) {
  return fft_bytes(width) + (width + kPlaceWords + words) * sizeof(Word);
}

// The filters of a block's tasks, in shared memory. A block keeps the filters of its first tasks, as far as they fit.
// It reads the filters of the other tasks again in each round. `number` counts the tasks of all units, `task` the tasks
// of one unit.
template <typename Filter>
class RowFilters {
 public:
  // All threads of the block must call this. They must pass a barrier before of_task(); BlockFft's constructor has one.
  // The kept filters are divided among the warps, so that many reads are in flight.
  __device__ RowFilters(const Units& units, int row, int H, int width, int words)
      : width_(width), kept_(0) {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
    int used = 0;
    for (int u = 0; u < units.count; ++u) {
      const Unit& unit = units.of[u];
      const int w = unit.w();
      for (int task = 0; task < 2 * unit.transforms; ++task) {
        const int y = task_row(unit, task, row, H), place = used;
        if (y >= 0) used += w;
        if (kept_ == kMaxKept || used > words) return;
        const int number = kept_++;
        if (number % warps != warp) continue;
        int needed = y >= 0 && Filter::needs_zeros(unit);
        if (y >= 0) {
#pragma unroll 4
          for (int x = lane; x < w; x += kWarp) {
            const Cplx<float> value = Filter::at(unit, task / 2, y, x);
            kept_words()[place + x] = Word{{value}};
            needed |= value.re != 0.0f || value.im != 0.0f;
          }
        }
        needed = largest_of_warp(needed);
        if (lane == 0) places()[number] = static_cast<short>(needed ? place : -1);
      }
    }
  }

  // The filter of a task, at row y of a band; null if it is 0 in this row, unless the kernel needs zeros. All threads of
  // the block must call this. If the result is not null, the threads were synchronised, so none still reads the previous
  // task's filter or FFT.
  __device__ const Word* of_task(const Unit& unit, int number, int task, int y) const {
    if (number < kept_) {
      const int place = places()[number];
      if (place < 0) return nullptr;
      __syncthreads();
      return kept_words() + place;
    }
    const int x = static_cast<int>(threadIdx.x);
    Cplx<float> value = {0.0f, 0.0f};
    if (x < unit.w()) value = Filter::at(unit, task / 2, y, x);
    if (!__syncthreads_or(value.re != 0.0f || value.im != 0.0f || Filter::needs_zeros(unit)))
      return nullptr;
    if (x < unit.w()) buffer()[x] = Word{{value}};
    __syncthreads();
    return buffer();
  }

 private:
  // Pointers are computed when they are needed, which saves registers.
  __device__ Word* buffer() const {
    return reinterpret_cast<Word*>(dynamic_shared_memory) + fft_bytes(width_) / sizeof(Word);
  }
  // Places in kept_words(); -1: the filter is 0, or there is no task.
  __device__ short* places() const { return reinterpret_cast<short*>(buffer() + width_); }
  __device__ Word* kept_words() const { return buffer() + width_ + kPlaceWords; }

  int width_;  // the image's width
  int kept_;   // number of tasks whose filters are kept
};

// Calls body(unit, fft, i, y, mirrored, filter) for the tasks of a block, in their order. y is the result of
// task_row(), and `mirrored` says whether it is the opposite row. `filter` is the result of of_task().
// All threads of the block must call this.
template <typename Filter, typename Body>
__device__ __forceinline__ void for_each_task(const Units& units, const RowFilters<Filter>& filters,
                                              int row, int H, const Body& body) {
  int number = 0;
  for (int u = 0; u < units.count; ++u) {
    const Unit& unit = units.of[u];
    const BlockFft fft(unit.rows);
    for (int task = 0; task < 2 * unit.transforms; ++task, ++number) {
      const int y = task_row(unit, task, row, H);
      if (y >= 0)
        body(unit, fft, task / 2, y, task % 2 != 0, filters.of_task(unit, number, task, y));
    }
  }
}

// The most dynamic shared memory that a kernel has without asking for more. Two such blocks fit on a multiprocessor of
// every GPU since sm_80.
constexpr size_t kRowSharedBytes = kMaxSharedBytes - kMaxStaticBytes;

// The time to read the filters, relative to the work for kLines planes: assumed, not measured. Filters are only a tenth
// of the bytes, but nothing hides their latency.
constexpr double kFilterWork = 0.25;
constexpr int kMaxRounds = 8;  // with 8 rounds, filters are only a hundredth of the bytes

// With more rounds per block, filters are read less often, but fewer blocks may leave multiprocessors idle. So this
// takes the number of rounds with the shortest time, if the device runs `at_once` blocks at a time.
template <typename... Params>
RowShare share_rows(const Launcher& launcher, void (*kernel)(Params...), int H, int W, int planes,
                    const Units& units) {
  int64_t words = 0;
  for (int u = 0; u < units.count; ++u)
    words += int64_t{units.of[u].transforms} * units.of[u].w() *
             (units.of[u].content == Content::kHalf ? 1 : 2);
  const auto space = static_cast<int64_t>((kRowSharedBytes - row_bytes(W, 0)) / sizeof(Word));
  RowShare share{1, static_cast<int>(std::min(words, space))};
  const int64_t at_once =
      launcher.blocks_at_once(row_bytes(W, share.words), kernel, threads_of(W, kItems));
  const int64_t max_rounds = blocks_of(planes, kLines);
  double least = 0.0;
  for (int n = 1; n <= std::min<int64_t>(max_rounds, kMaxRounds); ++n) {
    const int64_t blocks = half_rows(H) * blocks_of(max_rounds, n);
    const double time = static_cast<double>(blocks_of(blocks, at_once)) * (n + kFilterWork);
    if (n > 1 && time >= least) continue;
    least = time;
    share.rounds = n;
  }
  return share;
}

// Launches a kernel for the rows of `planes` planes. The kernel's last arguments are the units and the share.
template <typename... Params, typename... Args>
void launch_rows(const Launcher& launcher, void (*kernel)(Params...), int H, int W, int planes,
                 const Units& units, const Args&... args) {
  const RowShare share = share_rows(launcher, kernel, H, W, planes, units);
  const int64_t blocks = half_rows(H) * blocks_of(planes, share.planes());
  if (blocks == 0) return;
  launcher.run_with_shared(row_bytes(W, share.words), kernel, dim3(static_cast<unsigned>(blocks)),
                           threads_of(W, kItems), args..., units, share);
}

// How the threads of a block divide the lines, which are the same row of kLines planes. A thread has column x of kItems
// lines. Neighbouring threads have neighbouring lines, which are in different banks of shared memory.
struct ColumnItems {
  static constexpr int kThreads = kLines / kItems;  // for each column
  int x, first_line;

  __device__ ColumnItems() : x(threadIdx.x / kThreads), first_line(threadIdx.x % kThreads) {}
  __device__ int line(int m) const { return first_line + kThreads * m; }
};

}  // namespace
}  // namespace steerlens
