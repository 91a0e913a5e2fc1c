// Complex FFTs of one length by a block, in shared memory.
#pragma once

#include "../../math/dft.h"
#include "../../math/fft.h"
#include "../../prepare/planes.h"
#include "../launch.h"

namespace steerlens {
namespace {

// A block computes the FFTs of kLines lines side by side. Lines are neighbouring columns of one plane (64 bytes of each
// of its rows), or the same row of kLines planes.
constexpr int kLines = 8;

// One access of 8 bytes; Cplx itself is aligned to 4.
using Word = Pack<Cplx<float>, 1>;

// Each thread has kItems points of its block's lines (half as many in morph_planes if amplitudes move). Kernels keep
// them in registers, which limits kItems. A block has at most 1024 threads, so the sides of planes are limited, too.
constexpr int kItems = 4;
constexpr int max_threads(int items) { return kLines * kCudaLimits.max_side / items; }
constexpr int kMaxThreads = max_threads(kItems);

inline int threads_of(int size, int items, int lines = kLines) {
  return (lines * size / items + kWarp - 1) / kWarp * kWarp;
}

// In shared memory: points [2, size, lines], roots of unity [size], the factors of all passes [size]. With kLines
// lines, these take 144 * size bytes: 36 KiB for the largest side.
__host__ __device__ inline size_t fft_bytes(int size, int lines = kLines) {
  return size * sizeof(Word) * (2 * lines + 2);
}

// The Stockham algorithm: a pass reads one buffer and writes the other, inputs and outputs being in their natural order.
// 16 threads of a warp access shared memory together, 8 bytes each in 16 pairs of banks. If a block has kLines lines,
// these threads take two points of all lines, or eight consecutive points of two lines; see word(). With 2 kLines lines,
// they take one point of all lines.
template <int kBlockLines>
class BlockFftOf {
 public:
  // All threads of the block must call this. They wait until no thread reads an earlier FFT.
  __device__ explicit BlockFftOf(const FftPlan& plan)
      : plan_(plan),
        points_(reinterpret_cast<Word*>(dynamic_shared_memory)),
        roots_(points_ + 2 * plan.size * kBlockLines),
        factors_(roots_ + plan.size),
        moved_bit_(plan.passes > 0 && plan.radix[0] % 2 == 0) {
    __syncthreads();
    for (int i = threadIdx.x; i < plan.size; i += blockDim.x) {
      roots_[i] = Word{{root_of_unity(i, plan.size)}};
      if (i > 0) factors_[i - 1] = Word{{pass_factor(plan, i - 1)}};
    }
    __syncthreads();
  }

  __device__ int size() const { return plan_.size; }

  // Input i of a line.
  __device__ void set_input(int i, int line, Cplx<float> value) const {
    points_[word(i, line)] = Word{{value}};
  }
  // Output i of a line, after run().
  __device__ Cplx<float> output(int i, int line) const {
    return read(buffer(plan_.passes) + word(i, line));
  }

  // The forward FFTs; inverse FFTs are forward ones with real and imaginary parts swapped before and after. All threads
  // of the block must call this. Before they write the next inputs, they must pass a barrier.
  __device__ void run() const {
    int span = 1;
#pragma unroll 1  // more copies would only take registers
    for (int pass = 0; pass < plan_.passes; ++pass) {
      const int radix = plan_.radix[pass];
      __syncthreads();
      run_pass(radix, span, buffer(pass), buffer(pass + 1));
      span *= radix;
    }
    __syncthreads();
  }

 private:
  __device__ Word* buffer(int pass) const { return points_ + pass % 2 * plan_.size * kBlockLines; }

  // The index of a point in a buffer, chosen so that lanes rarely use the same bank. Even and odd points use different
  // halves of the banks. In each half, four consecutive even (or odd) points of two neighbouring lines use different
  // banks. If the first radix is 8, its pass writes points i and i + 8 at the same time. They are both even or both odd,
  // so moved_bit_ exchanges the halves in every second group of 8 points.
  __device__ int word(int i, int line) const {
    if constexpr (kBlockLines != kLines) return i * kBlockLines + line;
    return (i ^ (i >> 3 & moved_bit_)) * kLines + (line ^ (i & 6));
  }

  __device__ void run_pass(int radix, int span, const Word* from, Word* to) const {
    switch (radix) {
      case 2:
        return combine<2>(span, from, to);
      case 3:
        return combine<3>(span, from, to);
      case 4:
        return combine<4>(span, from, to);
      case 5:
        return combine<5>(span, from, to);
      case 7:
        return combine<7>(span, from, to);
      case 8:
        return combine<8>(span, from, to);
      default:
        return combine_prime(radix, span, from, to);
    }
  }

  template <int R>
  __device__ void combine(int span, const Word* from, Word* to) const {
    const int groups = plan_.size / R;
#pragma unroll 1
    for (int i = threadIdx.x; i < groups * kBlockLines; i += blockDim.x) {
      const int line = i % kBlockLines, group = i / kBlockLines, j = group % span;
      const int first = (group - j) * R + j;
      const Word* factors = factors_ + factor_offset(span) + j;
      Cplx<float> a[R];
#pragma unroll
      for (int k = 0; k < R; ++k) a[k] = read(from + word(group + k * groups, line));
#pragma unroll
      for (int k = 1; k < R; ++k) a[k] = a[k] * read(factors + (k - 1) * span);
      dft(a);
#pragma unroll
      for (int k = 0; k < R; ++k) to[word(first + k * span, line)] = Word{{a[k]}};
    }
  }

  // Any other radix, with radix^2 products. Such radices mostly come from coarse scales.
  __device__ void combine_prime(int radix, int span, const Word* from, Word* to) const {
    const int size = plan_.size, groups = size / radix, next_span = span * radix;
    for (int i = threadIdx.x; i < size * kBlockLines; i += blockDim.x) {
      const int line = i % kBlockLines, place = i / kBlockLines, frequency = place % next_span;
      const int group = place / next_span * span + frequency % span;
      const int turn = frequency * (size / next_span);
      Cplx<float> sum = {0.0f, 0.0f};
#pragma unroll 1
      for (int k = 0, root = 0; k < radix; ++k) {
        sum = sum + read(from + word(group + k * groups, line)) * read(roots_ + root);
        root += turn;
        if (root >= size) root -= size;
      }
      to[word(place, line)] = Word{{sum}};
    }
  }

  __device__ static Cplx<float> read(const Word* at) {
    const Word word = *at;
    return word.v[0];
  }

  const FftPlan& plan_;
  Word* points_;
  Word* roots_;
  Word* factors_;  // see pass_factor
  int moved_bit_;  // 1 if the first radix is even (8, unless the size is 2 or 4), otherwise 0
};

using BlockFft = BlockFftOf<kLines>;

// Point `at` of a line. The functions below number the points of all lines of a block.
struct Point {
  int at, line;
};

// Neighbouring threads have neighbouring lines: for columns, since a row of kLines columns is together in memory.
template <int kBlockLines = kLines>
__device__ __forceinline__ Point column_point(int i) {
  return {i / kBlockLines, i % kBlockLines};
}

// Neighbouring threads have neighbouring points of a line: for rows, since kLines points of a row are together in memory.
// Some points are beyond the end of the line.
__device__ __forceinline__ Point row_point(int i) {
  return {i / (kLines * kLines) * kLines + i % kLines, i / kLines % kLines};
}
__device__ __forceinline__ int row_points(int size) {
  return (size + kLines - 1) / kLines * kLines * kLines;
}

}  // namespace
}  // namespace steerlens
