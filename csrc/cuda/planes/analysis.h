// The analysis of real planes without its last step: callers compute the inverse FFTs of the bands' columns. This file
// also has the last step of the synthesis, from half rows to real planes.
#pragma once

#include "filter.h"

namespace steerlens {
namespace {

// Real planes in memory, `pitch` floats from one plane to the next; stride 2: the real parts of complex numbers.
struct RealPlanes {
  const float* data;
  int64_t pitch;
  int stride;
};

// Forward FFTs of the columns of real planes, two column blocks as real and imaginary part: with Z = A + i B, and A and
// B Hermitian, 2 A(y) = Z(y) + conj Z(-y) and 2 i B(y) = Z(y) - conj Z(-y). The half rows are stored.
__global__ void __launch_bounds__(kMaxThreads, 2)
    real_columns_kernel(const __grid_constant__ RealPlanes planes,
                        const __grid_constant__ FftPlan plan, int w, Cplx<float>* out) {
  const int h = plan.size, rows = half_rows(h), blocks = column_blocks(w);
  const unsigned pairs = (blocks + 1) / 2;
  const int64_t plane = blockIdx.x / pairs;
  const int first = 2 * static_cast<int>(blockIdx.x % pairs);
  const BlockFft fft(plan);
  const float* from = planes.data + plane * planes.pitch;
  for (int i = threadIdx.x; i < h * kLines; i += blockDim.x) {
    const Point p = column_point(i);
    const int x = first * kLines + p.line;
    const float* at = from + (int64_t{p.at} * w + x) * planes.stride;
    fft.set_input(p.at, p.line,
                  {x < w ? load_one(at) : 0.0f,
                   x + kLines < w ? load_one(at + kLines * planes.stride) : 0.0f});
  }
  fft.run();
  Cplx<float>* to = out + (plane * blocks + first) * rows * kLines;
  for (int i = threadIdx.x; i < rows * kLines; i += blockDim.x) {
    const Point p = column_point(i);
    const Cplx<float> z = fft.output(p.at, p.line);
    const Cplx<float> mirrored = fft.output(p.at == 0 ? 0 : h - p.at, p.line);
    store_one(to + i, {0.5f * (z.re + mirrored.re), 0.5f * (z.im - mirrored.im)});
    if (first + 1 < blocks)
      store_one(to + rows * kLines + i, {0.5f * (z.im + mirrored.im), 0.5f * (mirrored.re - z.re)});
  }
}

// A block has one row of the planes' spectra, and the opposite row, for share.rounds * kLines planes. It computes
// the forward FFT of the row. Then, for each band, it filters, crops and inverts the FFT.
//
// Rows in which a band's filter is 0 are neither computed nor stored. These are a fifth of the rows of an oriented
// band. The kernels that read the band look up in `stored_rows` which rows are stored. Bands with Content::kHalf are
// an exception: all of their rows are stored, because inverse_real_columns_kernel reads all.
__global__ void __launch_bounds__(kMaxThreads, 2)
    split_rows_kernel(const Cplx<float>* half_planes, const __grid_constant__ FftPlan plan, int H,
                      int planes, const __grid_constant__ Units units, RowShare share) {
  const int W = plan.size, half = half_rows(H);
  const int row = static_cast<int>(blockIdx.x % half);
  const int begin = static_cast<int>(blockIdx.x / half) * share.planes();
  const int end = share.end(begin, planes);
  const int plane_size = column_blocks(W) * half * kLines;
  const RowFilters<AnalysisFilter> filters(units, row, H, W, share.words);
#pragma unroll 1
  for (int first = begin; first < end; first += kLines) {
    Cplx<float> spectrum[kItems];
    const ColumnItems items;
    {
      const BlockFft fft(plan);
      for (int i = threadIdx.x; i < row_points(W); i += blockDim.x) {
        const Point p = row_point(i);
        if (p.at >= W) continue;
        Cplx<float> value = {0.0f, 0.0f};
        if (first + p.line < planes)
          value = load_one(half_planes + int64_t{first + p.line} * plane_size +
                           in_blocks(p.at, row, half));
        fft.set_input(p.at, p.line, value);
      }
      fft.run();
#pragma unroll
      for (int m = 0; m < kItems; ++m)
        spectrum[m] = items.x < W ? fft.output(items.x, items.line(m)) : Cplx<float>{0.0f, 0.0f};
    }
    const auto write_task = [&](const Unit& unit, const BlockFft& fft, int i, int y, bool mirrored,
                                const Word* filter) {
      const int w = unit.w();
      if (first == 0 && threadIdx.x == 0) unit.stored_rows[i * unit.h() + y] = filter != nullptr;
      if (!filter) return;
      const int X = mirrored ? static_cast<int>(opposite_row(items.x, W)) : items.x;
      const int x = items.x < W ? static_cast<int>(band_column(X, w, W)) : -1;
      if (x >= 0) {
        const Word factor = filter[x];
#pragma unroll
        for (int m = 0; m < kItems; ++m)
          fft.set_input(x, items.line(m),
                        swap_parts(factor.v[0] * (mirrored ? conj(spectrum[m]) : spectrum[m])));
      }
      fft.run();
      for (int j = threadIdx.x; j < row_points(w); j += blockDim.x) {
        const Point p = row_point(j);
        if (p.at < w && first + p.line < planes)
          store_one(unit.transform(first + p.line, i) + in_blocks(p.at, y, unit.data_rows),
                    swap_parts(fft.output(p.at, p.line)));
      }
    };
    for_each_task(units, filters, row, H, write_task);
  }
}

// Copies to shared memory which rows of a transform split_rows_kernel stored. Synchronise before reading `rows`.
__device__ __forceinline__ void load_stored_rows(const Unit& unit, int i, bool* rows) {
  for (int y = threadIdx.x; y < unit.h(); y += blockDim.x)
    rows[y] = unit.stored_rows[i * unit.h() + y];
}

// The index of column_point(i) in neighbouring column blocks of h rows each.
template <int kBlockLines>
__device__ __forceinline__ int in_column_blocks(int i, int h) {
  if constexpr (kBlockLines == kLines) return i;
  const Point p = column_point<kBlockLines>(i);
  return in_blocks(p.line, p.at, h);
}

// Reads column blocks of a transform for an inverse FFT; rows that are not stored are 0.
template <int kBlockLines>
__device__ __forceinline__ void read_inverse_columns(const BlockFftOf<kBlockLines>& fft,
                                                     const Cplx<float>* from,
                                                     const bool* stored_rows, int columns) {
  for (int i = threadIdx.x; i < fft.size() * kBlockLines; i += blockDim.x) {
    const Point p = column_point<kBlockLines>(i);
    fft.set_input(p.at, p.line,
                  p.line < columns && stored_rows[p.at]
                      ? swap_parts(load_one(from + in_column_blocks<kBlockLines>(i, fft.size())))
                      : Cplx<float>{0.0f, 0.0f});
  }
}

// Computes real planes from half rows, two column blocks at a time as in real_columns_kernel. write.plane(n)(at, value)
// stores point `at` of plane n.
template <typename Write>
__global__ void __launch_bounds__(kMaxThreads, 2)
    inverse_real_columns_kernel(const Cplx<float>* half_planes,
                                const __grid_constant__ FftPlan plan, int w,
                                const __grid_constant__ Write write) {
  const int h = plan.size, rows = half_rows(h), blocks = column_blocks(w);
  const unsigned pairs = (blocks + 1) / 2;
  const int64_t plane = blockIdx.x / pairs;
  const int first = 2 * static_cast<int>(blockIdx.x % pairs);
  const BlockFft fft(plan);
  const Cplx<float>* from = half_planes + (plane * blocks + first) * rows * kLines;
  const auto read = [&](int x, const Cplx<float>* at) -> Cplx<float> {
    return x < w ? load_one(at) : Cplx<float>{0.0f, 0.0f};
  };
  for (int i = threadIdx.x; i < rows * kLines; i += blockDim.x) {
    const Point p = column_point(i);
    const int x = first * kLines + p.line;
    Cplx<float> a = read(x, from + i), b = read(x + kLines, from + rows * kLines + i);
    const bool own_opposite = p.at == 0 || 2 * p.at == h;
    if (own_opposite) a.im = b.im = 0.0f;  // 0 up to rounding
    fft.set_input(p.at, p.line, swap_parts({a.re - b.im, a.im + b.re}));
    if (!own_opposite) fft.set_input(h - p.at, p.line, swap_parts({a.re + b.im, b.re - a.im}));
  }
  fft.run();
  const auto to = write.plane(plane);
  for (int i = threadIdx.x; i < h * kLines; i += blockDim.x) {
    const Point p = column_point(i);
    const int x = first * kLines + p.line, at = p.at * w + x;
    const Cplx<float> value = swap_parts(fft.output(p.at, p.line));
    if (x < w) to(at, value.re);
    if (x + kLines < w) to(at + kLines, value.im);
  }
}

inline void transform_columns(const Launcher& launcher, const RealPlanes& planes, int64_t count,
                              int H, int W, Cplx<float>* half_planes) {
  launch_lines(launcher, H, count * pairs_of(column_blocks(W)), real_columns_kernel, planes,
               make_fft_plan(H), W, half_planes);
}

inline void split_rows(const Launcher& launcher, const Cplx<float>* half_planes, int64_t count,
                       int H, int W, const Units& units) {
  const int planes = static_cast<int>(count);
  launch_rows(launcher, split_rows_kernel, H, W, planes, units, half_planes, make_fft_plan(W), H,
              planes);
}

template <typename Write>
void inverse_real_columns(const Launcher& launcher, const Cplx<float>* half_planes, int64_t count,
                          int H, int W, const Write& write) {
  launch_lines(launcher, H, count * pairs_of(column_blocks(W)), inverse_real_columns_kernel<Write>,
               half_planes, make_fft_plan(H), W, write);
}

}  // namespace
}  // namespace steerlens
