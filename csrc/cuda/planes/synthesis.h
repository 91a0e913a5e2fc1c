// The synthesis from the column FFTs of bands to the half rows of planes: row FFTs, filters, sums, inverse row FFTs.
#pragma once

#include "filter.h"

namespace steerlens {
namespace {

// The factors of frames. If `phase` is null (merge_planes), each plane is one frame.
struct FrameFactors {
  const float *phase, *amplitude;  // [F, N] if `per_plane`, else [F]
  bool per_plane;
  int64_t planes;              // N
  int64_t first, first_frame;  // the first plane and the first frame of a chunk
  int frames;                  // number of frames of a chunk
  bool moves_phase, moves_amplitude;

  __device__ int64_t index(int64_t plane, int64_t frame) const {
    frame += first_frame;
    return per_plane ? frame * planes + first + plane : frame;
  }
  // A frame whose factors are 0 is the plane itself.
  __device__ bool still(int64_t plane, int64_t frame) const {
    const int64_t at = index(plane, frame);
    return phase && !(moves_phase && load_one(phase + at) != 0.0f) &&
           !(moves_amplitude && load_one(amplitude + at) != 0.0f);
  }
  // Frames of all planes are numbered plane * frames + frame.
  __device__ bool still(int number) const { return still(number / frames, number % frames); }
};

struct MergedRows {
  Cplx<float>* half_planes;     // [count, column blocks, half rows, kLines]
  const Cplx<float>* residual;  // [planes, column blocks, half rows, kLines], or null
  int count;                    // frames of all planes
  FftPlan plan;                 // row FFTs
  int H;
  FrameFactors factors;
};

// Writes the same row of kLines frames, from number `first` on. A thread writes one point of two frames, and a warp 8
// points of the kLines frames. Where these are frames of one plane, the warp reads the residual only once.
__device__ __forceinline__ void write_rows(const MergedRows& args, const BlockFft& fft, int row,
                                           int first) {
  constexpr int kApart = kLines / 2;
  const int W = args.plan.size, half = half_rows(args.H);
  const int plane_size = column_blocks(W) * half * kLines;
  for (int j = threadIdx.x; j < row_points(W) / 2; j += blockDim.x) {
    const Point p{j / (kLines * kApart) * kLines + j % kLines, j / kLines % kApart};
    if (p.at >= W) continue;
    const int at = in_blocks(p.at, row, half);
    int64_t residual_plane = -1;
    Cplx<float> residual = {0.0f, 0.0f};
#pragma unroll
    for (int line = p.line; line < kLines; line += kApart) {
      if (first + line >= args.count) break;
      Cplx<float> value = swap_parts(fft.output(p.at, line));
      if (args.residual) {
        const int64_t plane = (first + line) / args.factors.frames;
        if (plane != residual_plane) residual = load_one(args.residual + plane * plane_size + at);
        residual_plane = plane;
        value = value + residual;
      }
      store_one(args.half_planes + int64_t{first + line} * plane_size + at, value);
    }
  }
}

// A block computes the same row of share.rounds * kLines frames. It filters and sums the FFTs of the bands' rows
// and of the opposite rows, and computes the inverse FFT of the sum. Opposite rows are needed, since the real part of
// an image comes from the Hermitian part of its spectrum, (S(Y, X) + conj S(-Y, -X)) / 2. A thread sums the values of
// its column in registers. Rows in which a filter is 0 are not read.
__global__ void __launch_bounds__(kMaxThreads, 2)
    merge_rows_kernel(const __grid_constant__ MergedRows args, const __grid_constant__ Units units,
                      RowShare share) {
  const int W = args.plan.size, H = args.H, half = half_rows(H);
  const int row = static_cast<int>(blockIdx.x % half);
  const int begin = static_cast<int>(blockIdx.x / half) * share.planes();
  const int end = share.end(begin, args.count);
  const ColumnItems items;
  static __shared__ bool active[kLines];
  const RowFilters<SynthesisFilter> filters(units, row, H, W, share.words);
#pragma unroll 1
  for (int first = begin; first < end; first += kLines) {
    if (threadIdx.x < kLines) {
      const int number = first + static_cast<int>(threadIdx.x);
      active[threadIdx.x] = number < args.count && !args.factors.still(number);
    }
    Cplx<float> sum[kItems] = {};
    const auto add_task = [&](const Unit& unit, const BlockFft& fft, int i, int y, bool mirrored,
                              const Word* filter) {
      if (!filter) return;
      const int w = unit.w();
      for (int j = threadIdx.x; j < row_points(w); j += blockDim.x) {
        const Point p = row_point(j);
        if (p.at >= w) continue;
        Cplx<float> value = {0.0f, 0.0f};
        if (active[p.line])
          value = load_one(unit.transform(first + p.line, i) + in_blocks(p.at, y, unit.data_rows));
        fft.set_input(p.at, p.line, value);
      }
      fft.run();
      // The band's x is computed only here: during the FFT, no register is free for it.
      if (items.x >= W) return;
      if (!mirrored) {
        const int x = static_cast<int>(band_column(items.x, w, W));
        if (x >= 0) {
          const Word factor = filter[x];
#pragma unroll
          for (int m = 0; m < kItems; ++m)
            sum[m] = sum[m] + factor.v[0] * fft.output(x, items.line(m));
        }
      }
      // A row that is its own opposite has no mirrored task, so its only task adds both terms. A half row adds one.
      if ((mirrored || opposite_row(row, H) == row) && unit.content != Content::kHalf) {
        const int x = static_cast<int>(band_column(opposite_row(items.x, W), w, W));
        if (x >= 0) {
          const Word factor = filter[x];
#pragma unroll
          for (int m = 0; m < kItems; ++m)
            sum[m] = sum[m] + conj(factor.v[0] * fft.output(x, items.line(m)));
        }
      }
    };
    for_each_task(units, filters, row, H, add_task);
    const BlockFft fft(args.plan);
    if (items.x < W) {
#pragma unroll
      for (int m = 0; m < kItems; ++m) fft.set_input(items.x, items.line(m), swap_parts(sum[m]));
    }
    fft.run();
    write_rows(args, fft, row, first);
  }
}

inline void merge_rows(const Launcher& launcher, const MergedRows& args, const Units& units) {
  launch_rows(launcher, merge_rows_kernel, args.H, args.plan.size, args.count, units, args);
}

}  // namespace
}  // namespace steerlens
