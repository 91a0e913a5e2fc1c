// The kernels of split_bands and merge_bands: ranges of rows, counted plane by plane. The FFT that follows divides its
// work among the threads in the same way, so that a thread finds its bands in its own cache.
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
