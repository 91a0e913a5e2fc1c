// kLines complex FFTs of one length by a block, in shared memory.
#pragma once

#include "../../args/planes.h"
#include "../../math/fft.h"
#include "../launch.h"

namespace steerlens {
namespace {

// FFTs that a block computes side by side: so many neighbouring columns, of 64 bytes, or so many rows.
constexpr int kLines = 8;
// Complex numbers from one sample of a line to the next: odd, so that neighbours are in different banks.
constexpr int kPitch = kLines + 1;

// One access of 8 bytes; Cplx itself is aligned to 4.
using Word = Pack<Cplx<float>, 1>;

__device__ __forceinline__ void store_one(Cplx<float>* p, Cplx<float> value) {
  store(p, Word{{value}});
}

// Each thread of a block holds kItems samples of its lines, in registers where a kernel keeps them. With more samples,
// or with the threads for larger sides, the registers of morph_planes would not suffice.
constexpr int kItems = 4;
constexpr int kMaxThreads = kLines * kCudaLimits.max_side / kItems;

inline int threads_of(int size) { return (kLines * size / kItems + kWarp - 1) / kWarp * kWarp; }

// In shared memory: samples [size, kPitch], roots of unity [size], places [size]. 82 bytes per sample: 21 KiB
// for the largest side.
inline size_t fft_bytes(int size) {
  return size * (sizeof(Word) * (kPitch + 1) + sizeof(uint16_t));
}

class BlockFft {
 public:
  // All threads of the block must call this; it waits for those that still read an earlier FFT.
  __device__ explicit BlockFft(const FftPlan& plan)
      : plan_(plan),
        samples_(reinterpret_cast<Word*>(dynamic_shared_memory)),
        roots_(samples_ + plan.size * kPitch),
        places_(reinterpret_cast<uint16_t*>(roots_ + plan.size)) {
    __syncthreads();
    for (int i = threadIdx.x; i < plan.size; i += blockDim.x) {
      roots_[i] = Word{{root_of_unity(i, plan.size)}};
      places_[i] = static_cast<uint16_t>(input_place(plan, i));
    }
    __syncthreads();
  }

  __device__ int size() const { return plan_.size; }

  // Input i of a line.
  __device__ void set_input(int i, int line, Cplx<float> value) const {
    samples_[places_[i] * kPitch + line] = Word{{value}};
  }
  // Output i of a line, after run().
  __device__ Cplx<float> output(int i, int line) const {
    return read(samples_ + i * kPitch + line);
  }

  // The forward FFTs. Inverse ones are those of numbers with swapped parts. All threads of the block must call this;
  // before the next inputs are written, they must wait for each other.
  __device__ void run() const {
    int span = 1;
    for (int pass = 0; pass < plan_.passes; ++pass) {
      const int radix = plan_.radix[pass];
      __syncthreads();
      run_pass(radix, span);
      span *= radix;
    }
    __syncthreads();
  }

 private:
  __device__ void run_pass(int radix, int span) const {
    switch (radix) {
      case 2:
        return combine<2>(span);
      case 3:
        return combine<3>(span);
      case 4:
        return combine<4>(span);
      case 5:
        return combine<5>(span);
      case 7:
        return combine<7>(span);
      case 8:
        return combine<8>(span);
      default:
        return combine_prime(radix, span);
    }
  }

  template <int R>
  __device__ void combine(int span) const {
    const int count = plan_.size / R * kLines, root_step = plan_.size / (span * R);
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
      const int line = i % kLines, group = i / kLines, j = group % span;
      Word* at = samples_ + ((group - j) * R + j) * kPitch + line;
      Cplx<float> a[R];
#pragma unroll
      for (int k = 0; k < R; ++k) a[k] = read(at + k * span * kPitch);
#pragma unroll
      for (int k = 1; k < R; ++k) a[k] = a[k] * read(roots_ + j * k * root_step);
      dft(a);
#pragma unroll
      for (int k = 0; k < R; ++k) at[k * span * kPitch] = Word{{a[k]}};
    }
  }

  // Any other radix, with radix^2 products: the coarse scales of odd sizes have such.
  __device__ void combine_prime(int radix, int span) const {
    const int size = plan_.size, length = span * radix, root_step = size / length;
    Cplx<float> out[kItems];
#pragma unroll
    for (int m = 0; m < kItems; ++m) {
      const int i = threadIdx.x + m * blockDim.x;
      if (i >= size * kLines) continue;
      const int line = i % kLines, place = i / kLines, within = place % length;
      const int turn = within * root_step;
      const Word* at = samples_ + (place - within + within % span) * kPitch + line;
      Cplx<float> sum = {0.0f, 0.0f};
      for (int k = 0, root = 0; k < radix; ++k) {
        sum = sum + read(at + k * span * kPitch) * read(roots_ + root);
        root += turn;
        if (root >= size) root -= size;
      }
      out[m] = sum;
    }
    __syncthreads();
#pragma unroll
    for (int m = 0; m < kItems; ++m) {
      const int i = threadIdx.x + m * blockDim.x;
      if (i < size * kLines) samples_[i / kLines * kPitch + i % kLines] = Word{{out[m]}};
    }
  }

  __device__ static Cplx<float> read(const Word* at) {
    const Word word = *at;
    return word.v[0];
  }

  const FftPlan& plan_;
  Word* samples_;
  Word* roots_;
  uint16_t* places_;
};

// How the threads of a block divide the samples of its lines among them.
struct Sample {
  int at, line;
};

// Neighbouring threads have neighbouring lines: for columns, whose samples are kLines numbers in memory.
__device__ __forceinline__ Sample column_sample(int i) { return {i / kLines, i % kLines}; }

// Neighbouring threads have neighbouring samples of a line: for rows, of which kLines samples are together in memory.
// There are samples beyond the last one of a line.
__device__ __forceinline__ Sample row_sample(int i) {
  return {i / (kLines * kLines) * kLines + i % kLines, i / kLines % kLines};
}
__device__ __forceinline__ int row_samples(int size) {
  return (size + kLines - 1) / kLines * kLines * kLines;
}

}  // namespace
}  // namespace steerlens
