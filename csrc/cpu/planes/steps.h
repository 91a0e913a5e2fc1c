// How the transforms of many planes are cut into tasks, and how results leave.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <stdexcept>

#include "../parallel.h"
#include "plane.h"

STEERLENS_LANES_BEGIN
namespace steerlens {
namespace {

SL_FN void stream_lanes(float* to, Lanes value) {
#if STEERLENS_LANES == 16
  _mm512_stream_ps(to, reinterpret_cast<__m512>(value));
#else
  _mm256_stream_ps(to, reinterpret_cast<__m256>(value));
#endif
}
SL_FN bool line_begins(const float* at) { return reinterpret_cast<uint64_t>(at) % kCacheLine == 0; }

// A cache line leaves past the caches as a whole or not at all: half of one waits for its rest, and is then read
// back and written once more (eight lanes: 205 ms where 19 are enough). So eight lanes alone go into the caches.
SL_FN void put_lanes(float* to, Lanes value, int64_t count, bool streamed) {
  if (sizeof(Lanes) == kCacheLine && streamed && count >= kLanes && line_begins(to))
    stream_lanes(to, value);
  else
    store_lanes(to, value, count);
}

// The same of twice as many floats.
SL_FN void put_two(float* to, Lanes first, Lanes second, int64_t count, bool streamed) {
  if (sizeof(Lanes) < kCacheLine && streamed && count >= 2 * kLanes && line_begins(to)) {
    stream_lanes(to, first);
    stream_lanes(to + kLanes, second);
    return;
  }
  put_lanes(to, first, count, streamed);
  put_lanes(to + kLanes, second, count - kLanes, streamed);
}

// Every length's FFT.
struct Ffts {
  std::map<int64_t, Fft> of;
  int64_t longest = 1;

  explicit Ffts(const PlaneBank& bank) {
    add(bank.H);
    add(bank.W);
    for (const PlanePart& part : bank.parts) {
      add(part.h);
      add(part.w);
    }
  }
  void add(int64_t size) {
    if (!of.count(size)) of.emplace(size, make_fft(size));
    longest = std::max(longest, size);
  }

  // Work for one plane, in samples of transforms.
  int64_t work(const PlaneBank& bank) const {
    int64_t samples = bank.H * bank.W;
    for (const PlanePart& part : bank.parts) samples += part.transforms() * part.h * part.w;
    return samples;
  }
};

// What the analysis and the synthesis of planes are made from.
struct Transforms {
  const PlaneBank& bank;
  const Ffts& ffts;
  std::vector<RowPanel> image_panels;

  Transforms(const PlaneBank& bank, const Ffts& ffts)
      : bank(bank), ffts(ffts), image_panels(row_panels(bank.H, bank.H, kLanes)) {}
};

// A thread's lines, kept from step to step, and for the next call.
inline Lines& lines_of_this_thread(int64_t longest) {
  thread_local Lines lines(0);
  if (lines.longest < longest) lines = Lines(longest);
  return lines;
}

// How the steps of a plane are run: by one thread, where there are planes enough for all threads ...
struct Serial {
  Lines& lines;

  template <typename Step>
  void operator()(int64_t count, const Step& step) const {
    for (int64_t i = 0; i < count; ++i) step(i, lines);
  }
};

// ... or by all of them, step by step.
struct Parallel {
  int64_t longest;

  template <typename Step>
  void operator()(int64_t count, const Step& step) const {
    parallel_rows(count, longest * kLanes, [&](int64_t begin, int64_t end) {
      Lines& lines = lines_of_this_thread(longest);
      for (int64_t i = begin; i < end; ++i) step(i, lines);
      _mm_sfence();  // after writes past the caches
    });
  }
};

// Memory for the work on one plane: two planes of lines, and what else is asked for.
struct Scratch {
  CplxLanes *spectrum, *between;
  Lanes* more;
};

// So much of it for each of some threads, by torch's allocator, whose record tells what an op takes.
class ScratchMemory {
 public:
  ScratchMemory(const Tensor& like, const PlaneBank& bank, int64_t more, int64_t threads)
      : bank(bank),
        more(more),
        memory(torch::stable::new_empty(like, {threads, lanes(bank, more) * kLanes},
                                        ScalarType::Float)) {}

  static int64_t lanes(const PlaneBank& bank, int64_t more) { return 4 * lines(bank) + more; }

  Scratch of(int64_t thread) {
    CplxLanes* first =
        reinterpret_cast<CplxLanes*>(write<Lanes>(memory) + thread * lanes(bank, more));
    CplxLanes* second = first + lines(bank);
    return {first, second, reinterpret_cast<Lanes*>(second + lines(bank))};
  }

 private:
  static int64_t lines(const PlaneBank& bank) { return padded(bank.H) * padded(bank.W) / kLanes; }

  const PlaneBank& bank;
  int64_t more;
  Tensor memory;
};

// More than this (in lanes; 32 MiB) is for all threads together, not for each.
constexpr int64_t kLanesOfThread = (int64_t{32} << 20) / sizeof(Lanes);

// Whether threads share each plane: where else one would wait for long, if a plane's steps feed them all,
// and where each would need too much memory of its own.
inline bool share_planes(const PlaneBank& bank, int64_t more) {
  const int64_t planes = bank.count, threads = torch::stable::get_num_threads();
  const bool waiting = planes % threads != 0 && planes < 4 * threads;
  const bool fed = panels_of(std::min(bank.H, bank.W)) >= 2 * threads;
  const bool large = ScratchMemory::lanes(bank, more) > kLanesOfThread;
  return threads > 1 && ((waiting && fed) || large);
}

// Calls work(n, scratch, steps) for each plane, with so many lanes of memory `more`. The arithmetic is the
// same however threads share the work.
template <typename Work>
void for_planes(const Tensor& like, const PlaneBank& bank, const Ffts& ffts, const Work& work,
                int64_t more = 0) {
  if (share_planes(bank, more)) {
    ScratchMemory memory(like, bank, more, 1);
    for (int64_t n = 0; n < bank.count; ++n) work(n, memory.of(0), Parallel{ffts.longest});
    return;
  }
  const int64_t threads = std::min<int64_t>(torch::stable::get_num_threads(), bank.count);
  ScratchMemory memory(like, bank, more, threads);
  std::atomic<int64_t> next{0};  // torch makes no more ranges than there are threads
  parallel_rows(bank.count, ffts.work(bank), [&](int64_t begin, int64_t end) {
    const int64_t thread = next.fetch_add(1);
    if (thread >= threads) throw std::logic_error("more ranges of planes than threads");
    const Serial steps{lines_of_this_thread(ffts.longest)};
    for (int64_t n = begin; n < end; ++n) work(n, memory.of(thread), steps);
    _mm_sfence();
  });
}

}  // namespace
}  // namespace steerlens
STEERLENS_LANES_END
