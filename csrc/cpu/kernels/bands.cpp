// Loops run over one row, which is contiguous, so that they vectorise.
#include "bands.h"

#include "blocks.h"
#include "by_parts.h"
#include "streaming_writer.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// Memory for one row, uninitialised.
template <typename T>
struct RowBuffer {
  Cplx<T>* const data;

  SL_FN explicit RowBuffer(int64_t size) : data(new Cplx<T>[size]) {}
  RowBuffer(const RowBuffer&) = delete;
  SL_FN ~RowBuffer() { delete[] data; }
};

// Reads the frequencies of row y of a band from the spectrum, and multiplies them by i^i_power, but not by masks. Columns
// of negative frequencies, which a half spectrum lacks, are conjugates of values in the row with the opposite frequency.
template <typename T>
SL_FN void read_row(const BandArgs<T>& args, const BandGroup<T>& g, int64_t n, int64_t y,
                    Cplx<T>* row) {
  const int64_t Y = image_row(y, g.h, args.H);
  const Cplx<T>* plane = args.spectrum + n * args.H * args.columns;
  const Cplx<T>* own = plane + Y * args.columns;
  const Cplx<T>* opposite = plane + opposite_row(Y, args.H) * args.columns;
  const int64_t non_negative = non_negative_columns(g.w);
  const Cplx<T> factor = power_of_i<T>(g.i_power);
  for (int64_t x = 0; x < non_negative; ++x) row[x] = factor * own[x];
  if (args.whole)
    for (int64_t x = non_negative; x < g.w; ++x)
      row[x] = factor * own[image_column(x, g.w, args.W)];
  else
    for (int64_t x = non_negative; x < g.columns; ++x) row[x] = factor * conj(opposite[g.w - x]);
}

template <typename T>
using RowWriter = StreamingWriter<Cplx<T>, kBlockSize>;

// to = mask * row or, if `second` is not null, (mask + i second) * row.
template <typename T>
SL_FN void filter_row(const T* mask, const T* second, const Cplx<T>* row, int64_t columns,
                      Cplx<T>* to, RowWriter<T>& writer) {
  for (int64_t begin = 0; begin < columns; begin += kBlockSize) {
    const int64_t size = block_size(columns, begin);
    const T* __restrict m = mask + begin;
    const Cplx<T>* __restrict from = row + begin;
    Cplx<T>* __restrict out = writer.block(to + begin);
    if (second) {
      const T* __restrict m2 = second + begin;
      for (int64_t x = 0; x < size; ++x)
        store_parts(pair_filter(m[x], m2[x], load_parts(from[x])), out[x]);
    } else {
      for (int64_t x = 0; x < size; ++x) store_parts(m[x] * load_parts(from[x]), out[x]);
    }
    writer.flush(to + begin, size);
  }
}

}  // namespace

template <typename T>
void split_rows(const SplitRowsArgs<T>& args, int64_t begin, int64_t end) {
  const BandGroup<T>& g = args.group;
  const int64_t per_band = args.bands.paired ? 2 : 1, area = g.h * g.columns;
  RowWriter<T> writer(args.bands.planes * g.num_stored * area);
  const RowBuffer<T> buffer(g.columns);
  Cplx<T>* const row = buffer.data;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t n = i / g.h, y = i % g.h;
    read_row(args.bands, g, n, y, row);
    for (int64_t q = 0; q < g.num_stored; ++q) {
      const int64_t k = per_band * q;
      const T* mask = g.mask + k * area + y * g.columns;
      const T* second = args.bands.paired && k + 1 < g.K ? mask + area : nullptr;
      filter_row(mask, second, row, g.columns,
                 g.data + (n * g.num_stored + q) * area + y * g.columns, writer);
    }
  }
}
STEERLENS_INSTANTIATE_KERNEL(split_rows, SplitRowsArgs)

namespace {

template <typename T>
SL_FN void clear_row(Cplx<T>* __restrict out, int64_t columns) {
  for (int64_t X = 0; X < columns; ++X) out[X] = {T(0), T(0)};
}

// Adds i^i_power * sum_k mask * band, over columns [x, x + size) of the bands' row y, to out[0, size), or overwrites it
// if `first`. Four orientations are computed at a time.
template <typename T>
SL_FN void add_columns(const BandGroup<T>& g, int64_t n, int64_t y, int64_t x, int64_t size,
                       bool first, Cplx<T>* __restrict out) {
  const Cplx<T> factor = power_of_i<T>(g.i_power);
  const int64_t area = g.h * g.columns, at = y * g.columns + x;
  const T* __restrict mask = g.mask + at;
  const Cplx<T>* __restrict band = g.data + (n % g.planes) * g.K * area + at;
  int64_t k = 0;
  for (; k + 4 <= g.K; k += 4, mask += 4 * area, band += 4 * area) {
    const T *m0 = mask, *m1 = mask + area, *m2 = m1 + area, *m3 = m2 + area;
    const Cplx<T>*b0 = band, *b1 = band + area, *b2 = b1 + area, *b3 = b2 + area;
    for (int64_t i = 0; i < size; ++i) {
      const Cplx<T> sum = m0[i] * b0[i] + m1[i] * b1[i] + (m2[i] * b2[i] + m3[i] * b3[i]);
      out[i] = first ? factor * sum : out[i] + factor * sum;
    }
    first = false;
  }
  for (; k < g.K; ++k, mask += area, band += area) {
    for (int64_t i = 0; i < size; ++i) {
      const Cplx<T> product = factor * (mask[i] * band[i]);
      out[i] = first ? product : out[i] + product;
    }
    first = false;
  }
}

// The same for bands in pairs, two pairs at a time. The power of i, and whether `out` is overwritten, are template
// arguments, so that the loops contain only sums of products.
template <int kPower, bool kFirst, typename T>
SL_FN void add_pairs(const BandGroup<T>& g, const T* __restrict mask,
                     const Cplx<T>* __restrict band, int64_t size, Cplx<T>* __restrict out) {
  const int64_t area = g.h * g.columns;
  const T *m0 = mask, *m1 = mask + area, *m2 = m1 + area, *m3 = m2 + area;
  const Cplx<T>*b0 = band, *b1 = band + area;
  for (int64_t i = 0; i < size; ++i) {
    const Cplx<T> f0 = conjugate_filter_times_power_of_i<kPower>(m0[i], m1[i]);
    const Cplx<T> f1 = conjugate_filter_times_power_of_i<kPower>(m2[i], m3[i]);
    const T re = f0.re * b0[i].re - f0.im * b0[i].im + (f1.re * b1[i].re - f1.im * b1[i].im);
    const T im = f0.re * b0[i].im + f0.im * b0[i].re + (f1.re * b1[i].im + f1.im * b1[i].re);
    out[i].re = kFirst ? re : out[i].re + re;
    out[i].im = kFirst ? im : out[i].im + im;
  }
}

template <int kPower, typename T>
SL_FN void add_pair_columns_times_power_of_i(const BandGroup<T>& g, const T* __restrict mask,
                                             const Cplx<T>* __restrict band, int64_t size,
                                             bool first, Cplx<T>* __restrict out) {
  const int64_t area = g.h * g.columns;
  int64_t k = 0;
  for (; k + 4 <= g.K; k += 4, mask += 4 * area, band += 2 * area, first = false)
    first ? add_pairs<kPower, true>(g, mask, band, size, out)
          : add_pairs<kPower, false>(g, mask, band, size, out);
  for (; k < g.K; k += 2, mask += 2 * area, band += area, first = false)
    for (int64_t i = 0; i < size; ++i) {
      const T second = k + 1 < g.K ? mask[area + i] : T(0);
      const Cplx<T> product = conjugate_filter_times_power_of_i<kPower>(mask[i], second) * band[i];
      out[i] = first ? product : out[i] + product;
    }
}

template <typename T>
SL_FN void add_pair_columns(const BandGroup<T>& g, int64_t n, int64_t y, int64_t x, int64_t size,
                            bool first, Cplx<T>* __restrict out) {
  const int64_t at = y * g.columns + x;
  const T* mask = g.mask + at;
  const Cplx<T>* band = g.data + (n % g.planes) * g.num_stored * g.h * g.columns + at;
  if (g.i_power == 0) add_pair_columns_times_power_of_i<0>(g, mask, band, size, first, out);
  if (g.i_power == 1) add_pair_columns_times_power_of_i<1>(g, mask, band, size, first, out);
  if (g.i_power == 2) add_pair_columns_times_power_of_i<2>(g, mask, band, size, first, out);
  if (g.i_power == 3) add_pair_columns_times_power_of_i<3>(g, mask, band, size, first, out);
}

// Computes a row of a whole spectrum. The bands of each group have columns for the lowest frequencies. Non-negative
// frequencies are at the left end of the row, negative ones at the right end.
template <typename T>
SL_FN void merge_whole_row(const BandArgs<T>& args, int64_t n, int64_t Y, Cplx<T>* __restrict out) {
  bool first = true;  // whether `out` has no values yet
  for (int i = 0; i < args.count; ++i) {
    const BandGroup<T>& g = args.groups[i];
    const int64_t y = g.K > 0 ? band_row(Y, g.h, args.H) : -1;
    if (y < 0) continue;
    const int64_t left_columns = g.w == args.W ? g.w : non_negative_columns(g.w);
    if (first && left_columns < args.W) clear_row(out, args.W);
    first = first && left_columns == args.W;
    Cplx<T>* right = out + args.W - g.w + left_columns;
    if (args.paired) {
      add_pair_columns(g, n, y, 0, left_columns, first, out);
      add_pair_columns(g, n, y, left_columns, g.w - left_columns, false, right);
    } else {
      add_columns(g, n, y, 0, left_columns, first, out);
      add_columns(g, n, y, left_columns, g.w - left_columns, false, right);
    }
    first = false;
  }
  if (first) clear_row(out, args.W);
}

// Computes a row of a half spectrum (pairs have whole spectra). It sums, over all bands, the band's row at columns of
// non-negative frequencies, and the conjugate of the band's opposite row at columns of negative frequencies.
template <typename T>
SL_FN void merge_row(const BandArgs<T>& args, int64_t n, int64_t Y, Cplx<T>* __restrict sum,
                     Cplx<T>* __restrict out) {
  bool first = true;
  for (int i = 0; i < args.count; ++i) {
    const BandGroup<T>& g = args.groups[i];
    if (g.K == 0) continue;
    const int64_t non_negative = non_negative_columns(g.w);
    if (first && non_negative < args.columns) {
      clear_row(out, args.columns);
      first = false;
    }
    const int64_t own = band_row(Y, g.h, args.H);
    if (own >= 0) {
      add_columns(g, n, own, 0, non_negative, first, out);
      first = false;
    }
    const int64_t opposite = band_row(opposite_row(Y, args.H), g.h, args.H);
    if (g.columns <= non_negative || opposite < 0) continue;
    if (first) clear_row(out, args.columns);
    first = false;
    const int64_t count = g.columns - non_negative;
    add_columns(g, n, opposite, non_negative, count, true, sum);
    for (int64_t x = 0; x < count; ++x) out[count - x] = out[count - x] + conj(sum[x]);
  }
  if (first) clear_row(out, args.columns);
}

}  // namespace

template <typename T>
void merge_rows(const BandArgs<T>& args, int64_t begin, int64_t end) {
  const RowBuffer<T> buffer(args.W);
  for (int64_t i = begin; i < end; ++i)
    merge_row(args, i / args.H, i % args.H, buffer.data, args.spectrum + i * args.columns);
}
STEERLENS_INSTANTIATE_KERNEL(merge_rows, BandArgs)

template <typename T>
void merge_whole_rows(const BandArgs<T>& args, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i)
    merge_whole_row(args, i / args.H, i % args.H, args.spectrum + i * args.W);
}
STEERLENS_INSTANTIATE_KERNEL(merge_whole_rows, BandArgs)

}  // namespace steerlens::STEERLENS_CPU_LEVEL
