// The kernels of split_bands and merge_bands. split_rows computes rows of one group's bands. merge_rows computes rows
// of half spectra, and merge_whole_rows computes rows of whole spectra. Rows are numbered over all planes. A thread has
// about the same rows as in torch's FFT, and so finds them in its own cache.
#pragma once

#include "../../kernel_args/bands.h"
#include "../levels.h"

namespace steerlens {

template <typename T>
struct SplitRowsArgs {
  const BandArgs<T>& bands;
  const BandGroup<T>& group;
};
template <typename T>
SplitRowsArgs(const BandArgs<T>&, const BandGroup<T>&) -> SplitRowsArgs<T>;

STEERLENS_DECLARE_KERNEL(split_rows, SplitRowsArgs)
STEERLENS_DECLARE_KERNEL(merge_rows, BandArgs)
STEERLENS_DECLARE_KERNEL(merge_whole_rows, BandArgs)

}  // namespace steerlens
