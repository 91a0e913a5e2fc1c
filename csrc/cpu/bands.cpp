// split_bands and merge_bands on the CPU: rows in parallel, each row one run of contiguous, vectorised
// multiplications.
#include "../math/bands.h"

#include <vector>

#include "../args/bands.h"
#include "blocks.h"
#include "clones.h"
#include "parallel.h"

namespace steerlens {
namespace {

template <typename T>
struct SplitRows {
  const Bank<T>& bank;
  const BandGroup<T>& group;
};
template <typename T>
SplitRows(const Bank<T>&, const BandGroup<T>&) -> SplitRows<T>;

// The row of band frequencies, turned, as the band's masks will multiply it.
template <typename T>
SL_FN void read_row(const Bank<T>& bank, const BandGroup<T>& g, int64_t n, int64_t y,
                    Cplx<T>* row) {
  const int64_t Y = image_row(y, g.h, bank.H);
  const Cplx<T>* plane = bank.spectrum + n * bank.H * bank.columns;
  const Cplx<T>* direct = plane + Y * bank.columns;
  const Cplx<T>* reflected = plane + opposite_row(Y, bank.H) * bank.columns;
  const int64_t split = direct_columns(g.w);
  const Cplx<T> turn = quarter_turns<T>(g.turns);
  for (int64_t x = 0; x < split; ++x) row[x] = turn * direct[x];
  if (bank.whole)
    for (int64_t x = split; x < g.w; ++x) row[x] = turn * direct[image_column(x, g.w, bank.W)];
  else
    for (int64_t x = split; x < g.columns; ++x) row[x] = turn * conj(reflected[g.w - x]);
}

constexpr int64_t kColumns = 512;

template <typename T>
using RowOutlet = Outlet<Cplx<T>, kColumns>;

// out = mask * row; or with the filter mask + i second, where there is one.
template <typename T>
SL_FN void filter_row(const T* mask, const T* second, const Cplx<T>* row, int64_t columns,
                      Cplx<T>* to, RowOutlet<T>& outlet) {
  for (int64_t first = 0; first < columns; first += kColumns) {
    const int64_t size = columns - first < kColumns ? columns - first : kColumns;
    const T* __restrict__ m = mask + first;
    const Cplx<T>* __restrict__ from = row + first;
    Cplx<T>* __restrict__ out = outlet.open(to + first);
    if (second) {
      const T* __restrict__ m2 = second + first;
      for (int64_t x = 0; x < size; ++x) store(pair_filter(m[x], m2[x], parts(from[x])), out[x]);
    } else {
      for (int64_t x = 0; x < size; ++x) store(m[x] * parts(from[x]), out[x]);
    }
    outlet.close(to + first, size);
  }
}

// Rows are counted plane by plane, so that a thread's bands are those that the FFT's thread reads.
template <typename T>
SL_FN void split_rows_body(const SplitRows<T>& args, int64_t begin, int64_t end) {
  const BandGroup<T>& g = args.group;
  const int64_t per_band = args.bank.paired ? 2 : 1, area = g.h * g.columns;
  RowOutlet<T> outlet(args.bank.planes * g.stored * area);
  std::vector<Cplx<T>> buffer(g.columns);
  Cplx<T>* row = buffer.data();
  for (int64_t i = begin; i < end; ++i) {
    const int64_t n = i / g.h, y = i % g.h;
    read_row(args.bank, g, n, y, row);
    for (int64_t q = 0; q < g.stored; ++q) {
      const int64_t k = per_band * q;
      const T* mask = g.mask + k * area + y * g.columns;
      const T* second = args.bank.paired && k + 1 < g.K ? mask + area : nullptr;
      filter_row(mask, second, row, g.columns, g.data + (n * g.stored + q) * area + y * g.columns,
                 outlet);
    }
  }
}
STEERLENS_CLONE_FOR_DTYPES(split_rows, SplitRows)

template <typename T>
SL_FN void clear_row(Cplx<T>* __restrict__ out, int64_t columns) {
  for (int64_t X = 0; X < columns; ++X) out[X] = {T(0), T(0)};
}

// out[x] (+)= turn * sum_k mask * band, four orientations at a time: columns [x, x + size) of row y.
template <typename T>
SL_FN void add_columns(const BandGroup<T>& g, int64_t n, int64_t y, int64_t x, int64_t size,
                       bool first, Cplx<T>* __restrict__ out) {
  const Cplx<T> turn = quarter_turns<T>(g.turns);
  const int64_t area = g.h * g.columns, at = y * g.columns + x;
  const T* __restrict__ mask = g.mask + at;
  const Cplx<T>* __restrict__ band = g.data + (n % g.planes) * g.K * area + at;
  int64_t k = 0;
  for (; k + 4 <= g.K; k += 4, mask += 4 * area, band += 4 * area) {
    const T *m0 = mask, *m1 = mask + area, *m2 = m1 + area, *m3 = m2 + area;
    const Cplx<T>*b0 = band, *b1 = band + area, *b2 = b1 + area, *b3 = b2 + area;
    for (int64_t i = 0; i < size; ++i) {
      const Cplx<T> sum = m0[i] * b0[i] + m1[i] * b1[i] + (m2[i] * b2[i] + m3[i] * b3[i]);
      out[i] = first ? turn * sum : out[i] + turn * sum;
    }
    first = false;
  }
  for (; k < g.K; ++k, mask += area, band += area) {
    for (int64_t i = 0; i < size; ++i) {
      const Cplx<T> one = turn * (mask[i] * band[i]);
      out[i] = first ? one : out[i] + one;
    }
    first = false;
  }
}

// The same of bands in pairs, two pairs at a time. Turns and whether to overwrite are known at compile
// time, so that the loops are sums of products only.
template <int kTurns, bool kFirst, typename T>
SL_FN void add_pairs(const BandGroup<T>& g, const T* __restrict__ mask,
                     const Cplx<T>* __restrict__ band, int64_t size, Cplx<T>* __restrict__ out) {
  const int64_t area = g.h * g.columns;
  const T *m0 = mask, *m1 = mask + area, *m2 = m1 + area, *m3 = m2 + area;
  const Cplx<T>*b0 = band, *b1 = band + area;
  for (int64_t i = 0; i < size; ++i) {
    const Cplx<T> f0 = turned_pair_filter<kTurns>(m0[i], m1[i]);
    const Cplx<T> f1 = turned_pair_filter<kTurns>(m2[i], m3[i]);
    const T re = f0.re * b0[i].re - f0.im * b0[i].im + (f1.re * b1[i].re - f1.im * b1[i].im);
    const T im = f0.re * b0[i].im + f0.im * b0[i].re + (f1.re * b1[i].im + f1.im * b1[i].re);
    out[i].re = kFirst ? re : out[i].re + re;
    out[i].im = kFirst ? im : out[i].im + im;
  }
}

template <int kTurns, typename T>
SL_FN void add_turned_pair_columns(const BandGroup<T>& g, const T* __restrict__ mask,
                                   const Cplx<T>* __restrict__ band, int64_t size, bool first,
                                   Cplx<T>* __restrict__ out) {
  const int64_t area = g.h * g.columns;
  int64_t k = 0;
  for (; k + 4 <= g.K; k += 4, mask += 4 * area, band += 2 * area, first = false)
    first ? add_pairs<kTurns, true>(g, mask, band, size, out)
          : add_pairs<kTurns, false>(g, mask, band, size, out);
  for (; k < g.K; k += 2, mask += 2 * area, band += area, first = false)
    for (int64_t i = 0; i < size; ++i) {
      const T second = k + 1 < g.K ? mask[area + i] : T(0);
      const Cplx<T> one = turned_pair_filter<kTurns>(mask[i], second) * band[i];
      out[i] = first ? one : out[i] + one;
    }
}

template <typename T>
SL_FN void add_pair_columns(const BandGroup<T>& g, int64_t n, int64_t y, int64_t x, int64_t size,
                            bool first, Cplx<T>* __restrict__ out) {
  const int64_t at = y * g.columns + x;
  const T* mask = g.mask + at;
  const Cplx<T>* band = g.data + (n % g.planes) * g.stored * g.h * g.columns + at;
  if (g.turns == 0) add_turned_pair_columns<0>(g, mask, band, size, first, out);
  if (g.turns == 1) add_turned_pair_columns<1>(g, mask, band, size, first, out);
  if (g.turns == 2) add_turned_pair_columns<2>(g, mask, band, size, first, out);
  if (g.turns == 3) add_turned_pair_columns<3>(g, mask, band, size, first, out);
}

// A row of a whole spectrum: no reflections, each group adds its columns at either end of the row.
template <typename T>
SL_FN void merge_whole_row(const Bank<T>& bank, int64_t n, int64_t Y, Cplx<T>* __restrict__ out) {
  bool first = true;
  for (int i = 0; i < bank.count; ++i) {
    const BandGroup<T>& g = bank.groups[i];
    const int64_t y = g.K > 0 ? band_row(Y, g.h, bank.H) : -1;
    if (y < 0) continue;
    const int64_t split = g.w == bank.W ? g.w : direct_columns(g.w);
    if (first && split < bank.W) clear_row(out, bank.W);
    first = first && split == bank.W;
    Cplx<T>* rest = out + bank.W - g.w + split;
    if (bank.paired) {
      add_pair_columns(g, n, y, 0, split, first, out);
      add_pair_columns(g, n, y, split, g.w - split, false, rest);
    } else {
      add_columns(g, n, y, 0, split, first, out);
      add_columns(g, n, y, split, g.w - split, false, rest);
    }
    first = false;
  }
  if (first) clear_row(out, bank.W);
}

// A row of a half spectrum: the direct columns, and the reflected ones of the opposite row.
template <typename T>
SL_FN void merge_row(const Bank<T>& bank, int64_t n, int64_t Y, Cplx<T>* __restrict__ sum,
                     Cplx<T>* __restrict__ out) {
  bool first = true;
  for (int i = 0; i < bank.count; ++i) {
    const BandGroup<T>& g = bank.groups[i];
    if (g.K == 0) continue;
    const int64_t split = direct_columns(g.w);
    if (first && split < bank.columns) {
      clear_row(out, bank.columns);
      first = false;
    }
    const int64_t direct = band_row(Y, g.h, bank.H);
    if (direct >= 0) {
      add_columns(g, n, direct, 0, split, first, out);
      first = false;
    }
    const int64_t reflected = band_row(opposite_row(Y, bank.H), g.h, bank.H);
    if (g.columns <= split || reflected < 0) continue;
    if (first) clear_row(out, bank.columns);
    first = false;
    const int64_t rest = g.columns - split;
    add_columns(g, n, reflected, split, rest, true, sum);
    for (int64_t x = 0; x < rest; ++x) out[rest - x] = out[rest - x] + conj(sum[x]);
  }
  if (first) clear_row(out, bank.columns);
}

template <typename T>
SL_FN void merge_rows_body(const Bank<T>& bank, int64_t begin, int64_t end) {
  std::vector<Cplx<T>> buffer(bank.W);
  for (int64_t i = begin; i < end; ++i)
    merge_row(bank, i / bank.H, i % bank.H, buffer.data(), bank.spectrum + i * bank.columns);
}
STEERLENS_CLONE_FOR_DTYPES(merge_rows, Bank)

// Rows are counted plane by plane, as in split_rows.
template <typename T>
SL_FN void merge_whole_rows_body(const Bank<T>& bank, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i)
    merge_whole_row(bank, i / bank.H, i % bank.H, bank.spectrum + i * bank.W);
}
STEERLENS_CLONE_FOR_DTYPES(merge_whole_rows, Bank)

std::vector<Tensor> split_bands(Tensor spectrum, std::vector<Tensor> masks,
                                std::vector<int64_t> turns, std::vector<int64_t> widths,
                                int64_t width, bool paired) {
  const auto run = [](const auto& bank, const Tensor&) {
    for (int i = 0; i < bank.count; ++i) {
      const auto& g = bank.groups[i];
      const SplitRows rows{bank, g};
      parallel_rows(bank.planes * g.h, g.K * g.columns,
                    [&](int64_t begin, int64_t end) { split_rows(rows, begin, end); });
    }
  };
  return split_bands_with(spectrum, masks, turns, widths, width, paired, run);
}

Tensor merge_bands(std::vector<Tensor> bands, std::vector<Tensor> masks, std::vector<int64_t> turns,
                   std::vector<int64_t> widths, int64_t height, int64_t width, bool whole,
                   bool paired) {
  const auto run = [](const auto& bank, const Tensor&) {
    int64_t depth = 1;
    for (int i = 0; i < bank.count; ++i) depth += bank.groups[i].K;
    if (bank.whole || bank.paired) {
      parallel_rows(bank.planes * bank.H, depth * bank.W,
                    [&](int64_t begin, int64_t end) { merge_whole_rows(bank, begin, end); });
      return;
    }
    parallel_rows(bank.planes * bank.H, depth * bank.columns,
                  [&](int64_t begin, int64_t end) { merge_rows(bank, begin, end); });
  };
  return merge_bands_with(bands, masks, turns, widths, height, width, whole, paired, run);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CPU, m) {
  m.impl("split_bands", TORCH_BOX(&split_bands));
  m.impl("merge_bands", TORCH_BOX(&merge_bands));
}

}  // namespace steerlens
