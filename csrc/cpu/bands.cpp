// split_bands and merge_bands on the CPU: rows in parallel, each row one run of contiguous, vectorised
// multiplications.
#include "../math/bands.h"

#include <vector>

#include "../args/bands.h"
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
  const int64_t Y = image_row(y, g.h, bank.H), stored = bank.W / 2 + 1;
  const Cplx<T>* plane = bank.spectrum + n * bank.H * stored;
  const Cplx<T>* direct = plane + Y * stored;
  const Cplx<T>* reflected = plane + opposite_row(Y, bank.H) * stored;
  const int64_t split = direct_columns(g.w);
  const Cplx<T> turn = quarter_turns<T>(g.turns);
  for (int64_t x = 0; x < split; ++x) row[x] = turn * direct[x];
  for (int64_t x = split; x < g.columns; ++x) row[x] = turn * conj(reflected[g.w - x]);
}

// Rows are counted plane by plane, so that a thread's bands are those that the FFT's thread reads.
template <typename T>
SL_FN void split_rows_body(const SplitRows<T>& args, int64_t begin, int64_t end) {
  const BandGroup<T>& g = args.group;
  std::vector<Cplx<T>> buffer(g.columns);
  Cplx<T>* __restrict__ row = buffer.data();
  for (int64_t i = begin; i < end; ++i) {
    const int64_t n = i / g.h, y = i % g.h;
    read_row(args.bank, g, n, y, row);
    for (int64_t k = 0; k < g.K; ++k) {
      const T* __restrict__ mask = g.mask + (k * g.h + y) * g.columns;
      Cplx<T>* __restrict__ out = g.data + ((n * g.K + k) * g.h + y) * g.columns;
      for (int64_t x = 0; x < g.columns; ++x) out[x] = mask[x] * row[x];
    }
  }
}
STEERLENS_CLONE_FOR_DTYPES(split_rows, SplitRows)

// sum[x] = sum_k mask * band over one row of a group.
template <typename T>
SL_FN void sum_row(const BandGroup<T>& g, int64_t n, int64_t y, Cplx<T>* __restrict__ sum) {
  for (int64_t k = 0; k < g.K; ++k) {
    const T* __restrict__ mask = g.mask + (k * g.h + y) * g.columns;
    const Cplx<T>* __restrict__ band = g.data + (((n % g.planes) * g.K + k) * g.h + y) * g.columns;
    if (k == 0)
      for (int64_t x = 0; x < g.columns; ++x) sum[x] = mask[x] * band[x];
    else
      for (int64_t x = 0; x < g.columns; ++x) sum[x] = sum[x] + mask[x] * band[x];
  }
}

template <typename T>
SL_FN void merge_row(const Bank<T>& bank, int64_t n, int64_t Y, Cplx<T>* __restrict__ sum,
                     Cplx<T>* __restrict__ out) {
  for (int64_t X = 0; X < bank.W / 2 + 1; ++X) out[X] = {T(0), T(0)};
  for (int i = 0; i < bank.count; ++i) {
    const BandGroup<T>& g = bank.groups[i];
    const Cplx<T> turn = quarter_turns<T>(g.turns);
    const int64_t split = direct_columns(g.w);
    const int64_t direct = g.K > 0 ? band_row(Y, g.h, bank.H) : -1;
    if (direct >= 0) {
      sum_row(g, n, direct, sum);
      for (int64_t x = 0; x < split; ++x) out[x] = out[x] + turn * sum[x];
    }
    if (g.columns <= split || g.K == 0) continue;
    const int64_t reflected = band_row(opposite_row(Y, bank.H), g.h, bank.H);
    if (reflected < 0) continue;
    if (reflected != direct) sum_row(g, n, reflected, sum);
    for (int64_t x = split; x < g.columns; ++x) out[g.w - x] = out[g.w - x] + conj(turn * sum[x]);
  }
}

template <typename T>
SL_FN void merge_rows_body(const Bank<T>& bank, int64_t begin, int64_t end) {
  std::vector<Cplx<T>> buffer(bank.W);
  const int64_t stored = bank.W / 2 + 1;
  for (int64_t Y = begin; Y < end; ++Y)
    for (int64_t n = 0; n < bank.planes; ++n)
      merge_row(bank, n, Y, buffer.data(), bank.spectrum + (n * bank.H + Y) * stored);
}
STEERLENS_CLONE_FOR_DTYPES(merge_rows, Bank)

std::vector<Tensor> split_bands(Tensor spectrum, std::vector<Tensor> masks,
                                std::vector<int64_t> turns, std::vector<int64_t> widths,
                                int64_t width) {
  const auto run = [](const auto& bank, const Tensor&) {
    for (int i = 0; i < bank.count; ++i) {
      const auto& g = bank.groups[i];
      const SplitRows rows{bank, g};
      parallel_rows(bank.planes * g.h, g.K * g.columns,
                    [&](int64_t begin, int64_t end) { split_rows(rows, begin, end); });
    }
  };
  return split_bands_with(spectrum, masks, turns, widths, width, run);
}

Tensor merge_bands(std::vector<Tensor> bands, std::vector<Tensor> masks, std::vector<int64_t> turns,
                   std::vector<int64_t> widths, int64_t height, int64_t width) {
  const auto run = [](const auto& bank, const Tensor&) {
    int64_t depth = 1;
    for (int i = 0; i < bank.count; ++i) depth += bank.groups[i].K;
    parallel_rows(bank.H, bank.planes * depth * bank.W / 2,
                  [&](int64_t begin, int64_t end) { merge_rows(bank, begin, end); });
  };
  return merge_bands_with(bands, masks, turns, widths, height, width, run);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CPU, m) {
  m.impl("split_bands", TORCH_BOX(&split_bands));
  m.impl("merge_bands", TORCH_BOX(&merge_bands));
}

}  // namespace steerlens
