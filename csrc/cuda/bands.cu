// split_bands and merge_bands on CUDA. Each is one launch for all groups, since launches take most of the time for
// small batches.
//
// A thread computes one frequency of the image's spectrum in several planes. So this value of the spectrum is read or
// written once for all bands, and masks are read once for these planes.
#include "../math/bands.h"

#include "../args/bands.h"
#include "launch.h"

namespace steerlens {
namespace {

// Planes of a thread. With more, masks would be read less often, but there are not enough registers for their values.
template <typename T>
constexpr int kPlanes = 64 / sizeof(T);
// Planes per branch in merge_kernel. With more, there would not be enough registers for the loads in flight.
constexpr int kPerBranch = 4;

// The number of threads for a row: its columns, rounded up to whole sectors of complex64. If the bands' rows begin at a
// sector, the accesses of a warp do so, too.
__host__ __device__ inline int64_t threads_per_row(int64_t columns) {
  return (columns + kPerSector / 2 - 1) / (kPerSector / 2) * (kPerSector / 2);
}

// Calls body(Y, X, n) for the frequencies at row Y, column X and the planes [n, n + kPlanes) that are this thread's.
template <typename T, typename Body>
__device__ __forceinline__ void for_each_frequency(const BandArgs<T>& args, const Body& body) {
  const int64_t per_row = threads_per_row(args.columns), end = args.H * per_row;
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (int64_t i = first; i < end; i += int64_t{gridDim.x} * kThreads) {
    const int64_t Y = i / per_row, X = i - Y * per_row;
    if (X >= args.columns) continue;
    for (int64_t n = int64_t{blockIdx.y} * kPlanes<T>; n < args.planes;
         n += int64_t{gridDim.y} * kPlanes<T>)
      body(Y, X, n);
  }
}

// The place of group g that holds the value at row Y, column X of the image's spectrum or, if `conjugate`, its
// conjugate; -1 where there is none.
template <typename T>
__device__ __forceinline__ int64_t place_of(const BandArgs<T>& args, const BandGroup<T>& g,
                                            int64_t Y, int64_t X, bool conjugate) {
  const bool half = !args.whole && !args.paired;
  const int64_t non_negative = direct_columns(g.w);
  int64_t x = X, y = Y;
  if (conjugate) {
    x = half && X > 0 && X <= g.columns - non_negative ? g.w - X : -1;
    y = opposite_row(Y, args.H);
  } else {
    x = half ? (X < non_negative ? X : -1) : band_column(X, g.w, args.W);
  }
  if (x >= 0) y = band_row(y, g.h, args.H);
  return x < 0 || y < 0 ? -1 : y * g.columns + x;
}

// Calls body(group, at, conjugate) for all places of all groups that hold a frequency.
template <typename T, typename Body>
__device__ __forceinline__ void for_each_place(const BandArgs<T>& args, int64_t Y, int64_t X,
                                               const Body& body) {
#pragma unroll 1
  for (int i = 0; i < 2 * args.count; ++i) {
    const BandGroup<T>& g = args.groups[i / 2];
    const bool conjugate = i % 2;
    const int64_t at = place_of(args, g, Y, X, conjugate);
    if (at >= 0) body(g, at, conjugate);
  }
}

// Writes value, or its conjugate, times i^i_power and masks to one place of all bands, in planes [n, n + kPlanes).
template <typename T>
__device__ __forceinline__ void write_place(const BandArgs<T>& args, const BandGroup<T>& g,
                                            int64_t n, int64_t at, bool conjugate,
                                            const Cplx<T> (&value)[kPlanes<T>]) {
  const int64_t area = g.h * g.columns, plane_size = g.num_stored * area;
  const Cplx<T> factor = power_of_i<T>(g.i_power);
#pragma unroll 1
  for (int64_t q = 0; q < g.num_stored; ++q) {
    const int64_t k = args.paired ? 2 * q : q;
    const T first = load_one(g.mask + k * area + at);
    const T second = args.paired && k + 1 < g.K ? load_one(g.mask + (k + 1) * area + at) : T(0);
    Cplx<T>* band = g.data + n * plane_size + q * area + at;
#pragma unroll
    for (int p = 0; p < kPlanes<T>; ++p, band += plane_size) {
      if (n + p >= args.planes) break;
      const Cplx<T> v = factor * (conjugate ? conj(value[p]) : value[p]);
      store_one(band, args.paired ? pair_filter(first, second, v) : first * v);
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads, kMinBlocks)
    split_kernel(const __grid_constant__ BandArgs<T> args) {
  const int64_t plane_size = args.H * args.columns;
  for_each_frequency(args, [&](int64_t Y, int64_t X, int64_t n) {
    const Cplx<T>* from = args.spectrum + n * plane_size + Y * args.columns + X;
    Cplx<T> value[kPlanes<T>] = {};
#pragma unroll
    for (int p = 0; p < kPlanes<T>; ++p)
      if (n + p < args.planes) value[p] = load_one(from + p * plane_size);
    for_each_place(args, Y, X, [&](const BandGroup<T>& g, int64_t at, bool conjugate) {
      write_place(args, g, n, at, conjugate, value);
    });
  });
}

// total[p] += i^i_power * mask * band, or its conjugate, summed up over all bands, at one place of a group, for output
// planes [n, n + kPlanes).
template <typename T>
__device__ __forceinline__ void add_place(const BandArgs<T>& args, const BandGroup<T>& g, int64_t n,
                                          int64_t at, bool conjugate,
                                          Cplx<T> (&total)[kPlanes<T>]) {
  const int64_t area = g.h * g.columns, plane_size = g.num_stored * area;
  const Cplx<T> factor = power_of_i<T>(g.i_power);
  const int64_t first_plane = n < g.planes ? n : n % g.planes;
#pragma unroll 1
  for (int64_t q = 0; q < g.num_stored; ++q) {
    const int64_t k = args.paired ? 2 * q : q;
    const T first = load_one(g.mask + k * area + at);
    const T second = args.paired && k + 1 < g.K ? load_one(g.mask + (k + 1) * area + at) : T(0);
    int64_t plane = first_plane;
    const Cplx<T>* band = g.data + plane * plane_size + q * area + at;
#pragma unroll
    for (int p = 0; p < kPlanes<T>; ++p) {
      // Few branches, so that several loads are in flight.
      if (p % kPerBranch == 0 && n + p >= args.planes) break;
      const Cplx<T> v = n + p < args.planes ? load_one(band) : Cplx<T>{T(0), T(0)};
      const Cplx<T> value =
          factor * (args.paired ? conjugate_pair_filter(first, second, v) : first * v);
      total[p] = total[p] + (conjugate ? conj(value) : value);
      band += plane_size;
      if (++plane == g.planes) {
        plane = 0;
        band -= g.planes * plane_size;
      }
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads, kMinBlocks)
    merge_kernel(const __grid_constant__ BandArgs<T> args) {
  const int64_t plane_size = args.H * args.columns;
  for_each_frequency(args, [&](int64_t Y, int64_t X, int64_t n) {
    Cplx<T> total[kPlanes<T>] = {};
    for_each_place(args, Y, X, [&](const BandGroup<T>& g, int64_t at, bool conjugate) {
      add_place(args, g, n, at, conjugate, total);
    });
    Cplx<T>* to = args.spectrum + n * plane_size + Y * args.columns + X;
#pragma unroll
    for (int p = 0; p < kPlanes<T>; ++p)
      if (n + p < args.planes) store_one(to + p * plane_size, total[p]);
  });
}

template <typename T>
void launch(void (*kernel)(BandArgs<T>), const BandArgs<T>& args, const Tensor& spectrum) {
  const dim3 grid(grid_size(args.H * threads_per_row(args.columns), kThreads, kMaxGridX),
                  grid_size(args.planes, kPlanes<T>, kMaxGridY));
  Launcher(spectrum).run(kernel, grid, kThreads, args);
}

template <typename T>
void launch_split(const BandArgs<T>& args, const Tensor& spectrum) {
  launch(split_kernel<T>, args, spectrum);
}

template <typename T>
void launch_merge(const BandArgs<T>& args, const Tensor& spectrum) {
  launch(merge_kernel<T>, args, spectrum);
}

std::vector<Tensor> split_bands(Tensor spectrum, std::vector<Tensor> masks,
                                std::vector<int64_t> i_powers, std::vector<int64_t> widths,
                                int64_t width, bool paired) {
  auto p = prepare_split_bands(spectrum, masks, i_powers, widths, width, paired);
  run_kernel(p, [&](const auto& args) { launch_split(args, p.spectrum); });
  return p.bands;
}

Tensor merge_bands(std::vector<Tensor> bands, std::vector<Tensor> masks,
                   std::vector<int64_t> i_powers, std::vector<int64_t> widths, int64_t height,
                   int64_t width, bool whole, bool paired) {
  auto p = prepare_merge_bands(bands, masks, i_powers, widths, height, width, whole, paired);
  run_kernel(p, [&](const auto& args) { launch_merge(args, p.spectrum); });
  return p.spectrum;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CUDA, m) {
  m.impl("split_bands", TORCH_BOX(&split_bands));
  m.impl("merge_bands", TORCH_BOX(&merge_bands));
}

}  // namespace steerlens
