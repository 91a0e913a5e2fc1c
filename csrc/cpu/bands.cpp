// split_bands and merge_bands on the CPU: rows in parallel.
#include "../prepare/bands.h"
#include "kernels/bands.h"
#include "parallel.h"

namespace steerlens {
namespace {

template <typename T>
void split(const BandArgs<T>& args) {
  for (int i = 0; i < args.count; ++i) {
    const BandGroup<T>& g = args.groups[i];
    const SplitRowsArgs rows{args, g};
    parallel_rows(args.planes * g.h, g.K * g.columns,
                  [&](int64_t begin, int64_t end) { split_rows(rows, begin, end); });
  }
}

template <typename T>
void merge(const BandArgs<T>& args) {
  int64_t rows_accessed = 1;  // for each row of the result: this row, and one of each band
  for (int i = 0; i < args.count; ++i) rows_accessed += args.groups[i].K;
  // Pairs are merged by the kernel for whole rows. args.whole may be false for them if W is 1 or 2, since half and whole
  // spectra are the same then.
  const bool whole_rows = args.whole || args.paired;
  parallel_rows(args.planes * args.H, rows_accessed * (whole_rows ? args.W : args.columns),
                [&](int64_t begin, int64_t end) {
                  whole_rows ? merge_whole_rows(args, begin, end) : merge_rows(args, begin, end);
                });
}

std::vector<Tensor> split_bands(Tensor spectrum, std::vector<Tensor> masks,
                                std::vector<int64_t> i_powers, std::vector<int64_t> widths,
                                int64_t width, bool paired) {
  auto p = prepare_split_bands(spectrum, masks, i_powers, widths, width, paired);
  run_kernel(p, [](const auto& args) { split(args); });
  return p.bands;
}

Tensor merge_bands(std::vector<Tensor> bands, std::vector<Tensor> masks,
                   std::vector<int64_t> i_powers, std::vector<int64_t> widths, int64_t height,
                   int64_t width, bool whole, bool paired) {
  auto p = prepare_merge_bands(bands, masks, i_powers, widths, height, width, whole, paired);
  run_kernel(p, [](const auto& args) { merge(args); });
  return p.spectrum;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CPU, m) {
  m.impl("split_bands", TORCH_BOX(&split_bands));
  m.impl("merge_bands", TORCH_BOX(&merge_bands));
}

}  // namespace steerlens
