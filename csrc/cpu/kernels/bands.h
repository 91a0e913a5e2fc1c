// The kernels of split_bands and merge_bands. They compute ranges of rows, which are numbered over all planes: split_rows
// those of one group's bands, merge_rows and merge_whole_rows those of the images' spectra. torch's FFT divides its work
// among threads in the same way, so that a thread finds its bands in its own cache.
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
