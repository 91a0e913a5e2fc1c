// The kernels of split_bands and merge_bands. split_rows computes rows of one group's bands, merge_rows and
// merge_whole_rows rows of the images' spectra. Rows are numbered over all planes. torch's FFT divides its work among
// threads in the same way, so that a thread finds its bands in its own cache.
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
