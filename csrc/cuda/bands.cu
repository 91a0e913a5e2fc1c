// split_bands and merge_bands on CUDA, each in one launch for all groups, since launches dominate the time of small
// batches.
//
// A thread computes one place (split: 16 bytes) of kPlanes planes: masks are read and
// indices computed once for all of them, and kPlanes independent accesses are in flight. Places are counted
// through the whole plane, not row by row, at the cost of one division per thread: rows often have an odd
// length (W/2+1 where 4 divides W), planes seldom do.
#include "../math/bands.h"

#include "../args/bands.h"
#include "launch.h"

namespace steerlens {
namespace {

constexpr int kPlanes = 4;

// How the blocks along the grid's x are divided among the groups.
struct Tiles {
  int64_t first[kMaxGroups + 1];  // group i has the tiles [first[i], first[i+1])
  bool wide[kMaxGroups];          // its masks and bands are accessed 16 bytes at a time
};

// The place of the image's spectrum that a band reads.
struct Place {
  int64_t offset;  // in the spectrum's plane
  bool conjugate;
};

template <typename T>
__device__ Place place_of(const BandArgs<T>& args, const BandGroup<T>& g, int64_t y, int64_t x) {
  const int64_t Y = image_row(y, g.h, args.H);
  if (args.whole) return {Y * args.columns + image_column(x, g.w, args.W), false};
  if (x < direct_columns(g.w)) return {Y * args.columns + x, false};
  return {opposite_row(Y, args.H) * args.columns + g.w - x, true};
}

// What kCount consecutive places of a band, from `at` on, read in planes [n, n + kPlanes), times i^i_power.
template <int kCount, typename T>
__device__ __forceinline__ void read_places(const BandArgs<T>& args, const BandGroup<T>& g,
                                            int64_t n, int64_t at,
                                            Pack<Cplx<T>, kCount> (&value)[kPlanes]) {
  const int64_t plane_size = args.H * args.columns;
  const Cplx<T> factor = power_of_i<T>(g.i_power);
  int64_t y = at / g.columns, x = at - y * g.columns;
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    const Place place = place_of(args, g, y, x);
#pragma unroll
    for (int p = 0; p < kPlanes; ++p) {
      const int64_t plane = n + p < args.planes ? n + p : n;  // beyond the last: read, not written
      const Cplx<T> v = load_one(args.spectrum + plane * plane_size + place.offset);
      value[p].v[j] = factor * (place.conjugate ? conj(v) : v);
    }
    if (++x == g.columns) ++y, x = 0;
  }
}

template <typename T, int kCount>
__device__ __forceinline__ Pack<Cplx<T>, kCount> operator*(const Pack<T, kCount>& mask,
                                                           const Pack<Cplx<T>, kCount>& value) {
  Pack<Cplx<T>, kCount> out;
#pragma unroll
  for (int j = 0; j < kCount; ++j) out.v[j] = mask.v[j] * value.v[j];
  return out;
}

// kCount consecutive coefficients, from `at` on, of every orientation of planes [n, n + kPlanes).
template <int kCount, typename T>
__device__ __forceinline__ void split_at(const BandArgs<T>& args, const BandGroup<T>& g, int64_t n,
                                         int64_t at) {
  const int64_t area = g.h * g.columns;
  Pack<Cplx<T>, kCount> value[kPlanes];
  read_places(args, g, n, at, value);
  const int64_t plane_size = g.num_stored * area;
  Cplx<T>* band = g.data + n * plane_size + at;
  if (args.paired) {
#pragma unroll 2
    for (int64_t q = 0; q < g.num_stored; ++q) {
      const auto first = load<kCount>(g.mask + 2 * q * area + at);
      Pack<T, kCount> second{};
      if (2 * q + 1 < g.K) second = load<kCount>(g.mask + (2 * q + 1) * area + at);
#pragma unroll
      for (int p = 0; p < kPlanes; ++p) {
        Pack<Cplx<T>, kCount> out;
#pragma unroll
        for (int j = 0; j < kCount; ++j)
          out.v[j] = pair_filter(first.v[j], second.v[j], value[p].v[j]);
        if (n + p < args.planes) store(band + p * plane_size + q * area, out);
      }
    }
    return;
  }
#pragma unroll 2
  for (int64_t k = 0; k < g.K; ++k) {
    const auto mask = load<kCount>(g.mask + k * area + at);
#pragma unroll
    for (int p = 0; p < kPlanes; ++p)
      if (n + p < args.planes) store(band + p * plane_size + k * area, mask * value[p]);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads, kMinBlocks)
    split_kernel(const __grid_constant__ BandArgs<T> args, const __grid_constant__ Tiles tiles) {
  constexpr int kWide = 16 / sizeof(Cplx<T>);
  for (int64_t tile = blockIdx.x; tile < tiles.first[args.count]; tile += gridDim.x) {
    int i = 0;
    while (tile >= tiles.first[i + 1]) ++i;
    const BandGroup<T>& g = args.groups[i];
    const int64_t thread = (tile - tiles.first[i]) * kThreads + threadIdx.x;
    const int64_t at = tiles.wide[i] ? thread * kWide : thread;
    if (at >= g.h * g.columns) continue;
    for (int64_t n = int64_t{blockIdx.y} * kPlanes; n < args.planes;
         n += int64_t{gridDim.y} * kPlanes)
      tiles.wide[i] ? split_at<kWide>(args, g, n, at) : split_at<1>(args, g, n, at);
  }
}

template <typename T>
Tiles tiles_of(const BandArgs<T>& args) {
  constexpr int kWide = 16 / sizeof(Cplx<T>);
  Tiles tiles{};
  for (int i = 0; i < args.count; ++i) {
    const BandGroup<T>& g = args.groups[i];
    const int64_t area = g.K > 0 ? g.h * g.columns : 0;
    tiles.wide[i] = area % kWide == 0 && aligned({g.data}) && aligned({g.mask}, kWide * sizeof(T));
    const int64_t per_tile = kThreads * (tiles.wide[i] ? kWide : 1);
    tiles.first[i + 1] = tiles.first[i] + (area + per_tile - 1) / per_tile;
  }
  return tiles;
}

// total[p] += i^i_power * sum_k mask * band at one place of a group, for output planes [n, n + kPlanes).
template <bool kConjugate, typename T>
__device__ __forceinline__ void add_sample(const BandGroup<T>& g, int64_t n, int64_t at,
                                           Cplx<T> (&total)[kPlanes]) {
  const int64_t area = g.h * g.columns;
  const Cplx<T>* band[kPlanes];
  int64_t plane = n < g.planes ? n : n % g.planes;
#pragma unroll
  for (int p = 0; p < kPlanes; ++p) {
    band[p] = g.data + plane * g.K * area + at;
    if (++plane == g.planes) plane = 0;  // so that planes beyond the last output can be read, too
  }
  Cplx<T> sum[kPlanes] = {};
#pragma unroll 2
  for (int64_t k = 0; k < g.K; ++k) {
    const T mask = load_one(g.mask + k * area + at);
#pragma unroll
    for (int p = 0; p < kPlanes; ++p) sum[p] = sum[p] + mask * load_one(band[p] + k * area);
  }
  const Cplx<T> factor = power_of_i<T>(g.i_power);
#pragma unroll
  for (int p = 0; p < kPlanes; ++p) {
    const Cplx<T> value = factor * sum[p];
    total[p] = total[p] + (kConjugate ? conj(value) : value);
  }
}

// The same for bands in pairs.
template <typename T>
__device__ __forceinline__ void add_pair_sample(const BandGroup<T>& g, int64_t n, int64_t at,
                                                Cplx<T> (&total)[kPlanes]) {
  const int64_t area = g.h * g.columns;
  const Cplx<T> factor = power_of_i<T>(g.i_power);
  const Cplx<T>* band[kPlanes];
  int64_t plane = n < g.planes ? n : n % g.planes;
#pragma unroll
  for (int p = 0; p < kPlanes; ++p) {
    band[p] = g.data + plane * g.num_stored * area + at;
    if (++plane == g.planes) plane = 0;
  }
#pragma unroll 2
  for (int64_t q = 0; q < g.num_stored; ++q) {
    const T first = load_one(g.mask + 2 * q * area + at);
    const T second = 2 * q + 1 < g.K ? load_one(g.mask + (2 * q + 1) * area + at) : T(0);
#pragma unroll
    for (int p = 0; p < kPlanes; ++p)
      total[p] =
          total[p] + factor * conjugate_pair_filter(first, second, load_one(band[p] + q * area));
  }
}

// Adds what group g holds of the frequency at row Y, column X of the image's spectrum.
template <typename T>
__device__ __forceinline__ void add_group(const BandArgs<T>& args, const BandGroup<T>& g, int64_t n,
                                          int64_t Y, int64_t X, Cplx<T> (&total)[kPlanes]) {
  const int64_t split = direct_columns(g.w), H = args.H;
  if (args.whole || args.paired) {
    const int64_t x = band_column(X, g.w, args.W), y = x < 0 ? -1 : band_row(Y, g.h, H);
    if (y < 0) return;
    if (args.paired)
      add_pair_sample(g, n, y * g.columns + x, total);
    else
      add_sample<false>(g, n, y * g.columns + x, total);
    return;
  }
  const int64_t direct = X < split ? band_row(Y, g.h, H) : -1;
  if (direct >= 0) add_sample<false>(g, n, direct * g.columns + X, total);
  const bool has_reflected = X > 0 && X <= g.columns - split;
  const int64_t reflected = has_reflected ? band_row(opposite_row(Y, H), g.h, H) : -1;
  if (reflected >= 0) add_sample<true>(g, n, reflected * g.columns + g.w - X, total);
}

template <typename T>
__global__ void __launch_bounds__(kThreads, kMinBlocks)
    merge_kernel(const __grid_constant__ BandArgs<T> args) {
  const int64_t area = args.H * args.columns;
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (int64_t at = first; at < area; at += int64_t{gridDim.x} * kThreads) {
    const int64_t Y = at / args.columns, X = at - Y * args.columns;
    for (int64_t n = int64_t{blockIdx.y} * kPlanes; n < args.planes;
         n += int64_t{gridDim.y} * kPlanes) {
      Cplx<T> total[kPlanes] = {};
      for (int i = 0; i < args.count; ++i) add_group(args, args.groups[i], n, Y, X, total);
#pragma unroll
      for (int p = 0; p < kPlanes; ++p)
        if (n + p < args.planes)
          store(args.spectrum + (n + p) * area + at, Pack<Cplx<T>, 1>{total[p]});
    }
  }
}

template <typename T>
void launch_split(const BandArgs<T>& args, const Tensor& on) {
  const Tiles tiles = tiles_of(args);
  if (tiles.first[args.count] == 0) return;
  const dim3 grid(grid_size(tiles.first[args.count], 1, kMaxGridX),
                  grid_size(args.planes, kPlanes, kMaxGridY));
  Launcher(on).run(split_kernel<T>, grid, kThreads, args, tiles);
}

template <typename T>
void launch_merge(const BandArgs<T>& args, const Tensor& on) {
  const dim3 grid(grid_size(args.H * args.columns, kThreads, kMaxGridX),
                  grid_size(args.planes, kPlanes, kMaxGridY));
  Launcher(on).run(merge_kernel<T>, grid, kThreads, args);
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
