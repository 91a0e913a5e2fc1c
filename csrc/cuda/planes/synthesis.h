// From the bands' column FFTs to the half rows of the planes that they add up to.
#pragma once

#include "filter.h"

namespace steerlens {
namespace {

// The factors of frames. Without factors, each plane is one frame, and all move.
struct FrameFactors {
  const float *phase, *amplitude;  // [F, N or 1]
  int64_t stride;                  // N or 0, between the factors of one plane: see index()
  int64_t planes;                  // N
  int64_t first, first_frame;      // of a chunk
  int frames;                      // of a chunk
  bool moves_phase, moves_amplitude;

  __device__ int64_t index(int64_t plane, int64_t frame) const {
    frame += first_frame;
    return stride ? frame * planes + first + plane : frame;
  }
  // A frame whose factors are 0 is the plane itself.
  __device__ bool still(int64_t plane, int64_t frame) const {
    const int64_t at = index(plane, frame);
    return phase && !(moves_phase && load_one(phase + at) != 0.0f) &&
           !(moves_amplitude && load_one(amplitude + at) != 0.0f);
  }
  // The same for a line: frames are numbered through all planes, those of one plane together.
  __device__ bool still(int line) const { return still(line / frames, line % frames); }
};

struct MergedRows {
  Cplx<float>* half_planes;     // [lines, column blocks, half rows, kLines]
  const Cplx<float>* residual;  // the same of each plane, or null
  int lines;                    // planes times frames
  FftPlan plan;                 // of a row
  int H;
  FrameFactors factors;
};

// One row of the half spectrum of kLines planes. The FFTs of the bands' rows, and of the opposite rows, are filtered
// and summed up. Then comes the inverse FFT of the sum. Opposite rows are needed, since the real part of an image comes
// from the Hermitian part of its spectrum, (S(Y, X) + conj S(-Y, -X)) / 2. A thread sums the values of its columns in
// registers. Filters pass through shared memory, so that each is read once and in whole sectors. Rows in which a filter
// is 0 are not read.
__global__ void __launch_bounds__(kMaxThreads, 2)
    merge_rows_kernel(const __grid_constant__ MergedRows args,
                      const __grid_constant__ Units units) {
  const int W = args.plan.size, H = args.H, half = half_rows(H);
  const int row = static_cast<int>(blockIdx.x % half);
  const int first = static_cast<int>(blockIdx.x / half) * kLines;
  const ColumnItems items;
  const int opposite = static_cast<int>(opposite_row(row, H));
  const int opposite_column = static_cast<int>(opposite_row(items.x, W));
  static __shared__ bool active[kLines];
  static __shared__ Word filters[kCudaLimits.max_side];  // of a row
  if (threadIdx.x < kLines) {
    const int line = first + static_cast<int>(threadIdx.x);
    active[threadIdx.x] = line < args.lines && !args.factors.still(line);
  }
  Cplx<float> sum[kItems] = {};
  for (int u = 0; u < units.count; ++u) {
    const Unit& unit = units.of[u];
    const int w = unit.w();
    const bool halved = unit.content == Content::kHalf, own_opposite = opposite == row;
    const int direct = items.x < W ? static_cast<int>(band_column(items.x, w, W)) : -1;
    const int reflected =
        items.x < W && !halved ? static_cast<int>(band_column(opposite_column, w, W)) : -1;
    const BlockFft fft(unit.rows);
    for (int task = 0; task < unit.transforms * 2; ++task) {
      const bool mirrored = task % 2;
      if (mirrored && (own_opposite || halved)) continue;
      const int i = task / 2, Y = mirrored ? opposite : row;
      const int y = static_cast<int>(band_row(Y, unit.h(), H));
      if (y < 0) continue;
      const int x = static_cast<int>(threadIdx.x);
      Cplx<float> filter = {0.0f, 0.0f};
      if (x < w) filter = (halved ? 1.0f : 0.5f) * filter_at(unit, i, y, x, -1.0f);
      // Also waits for those that read the last filters and FFT.
      if (!__syncthreads_or(filter.re != 0.0f || filter.im != 0.0f)) continue;
      if (x < w) filters[x] = Word{{filter}};
      for (int j = threadIdx.x; j < row_points(w); j += blockDim.x) {
        const Point p = row_point(j);
        if (p.at >= w) continue;
        Cplx<float> value = {0.0f, 0.0f};
        if (active[p.line])
          value = load_one(unit.transform(first + p.line, i) + in_blocks(p.at, y, unit.data_rows));
        fft.set_input(p.at, p.line, value);
      }
      fft.run();
      if (!mirrored && direct >= 0) {
        const Word factor = filters[direct];
#pragma unroll
        for (int m = 0; m < kItems; ++m)
          sum[m] = sum[m] + factor.v[0] * fft.output(direct, items.line(m));
      }
      if ((mirrored || own_opposite) && reflected >= 0) {
        const Word factor = filters[reflected];
#pragma unroll
        for (int m = 0; m < kItems; ++m)
          sum[m] = sum[m] + conj(factor.v[0] * fft.output(reflected, items.line(m)));
      }
    }
  }
  const BlockFft fft(args.plan);
  if (items.x < W) {
#pragma unroll
    for (int m = 0; m < kItems; ++m) fft.set_input(items.x, items.line(m), swap_parts(sum[m]));
  }
  fft.run();
  const int plane_size = column_blocks(W) * half * kLines;
  for (int j = threadIdx.x; j < row_points(W); j += blockDim.x) {
    const Point p = row_point(j);
    const int line = first + p.line, at = in_blocks(p.at, row, half);
    if (p.at >= W || line >= args.lines) continue;
    Cplx<float> value = swap_parts(fft.output(p.at, p.line));
    if (args.residual)
      value =
          value + load_one(args.residual + int64_t{line / args.factors.frames} * plane_size + at);
    store_one(args.half_planes + int64_t{line} * plane_size + at, value);
  }
}

inline void merge_rows(const Launcher& launcher, const MergedRows& args, const Units& units) {
  const int64_t groups = blocks_of(args.lines, kLines);
  launch_lines(launcher, args.plan.size, half_rows(args.H) * groups, merge_rows_kernel, args,
               units);
}

}  // namespace
}  // namespace steerlens
