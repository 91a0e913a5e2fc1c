// split_planes: split_bands and the FFTs before and after it, plane by plane, so that a spectrum stays in a core's
// caches. Like all ops on whole planes, it exists only at CPU levels with a SIMD width (../capability.h).
#pragma once

#include "analysis.h"
#include "filter_blocks.h"
#include "streaming_vec_writer.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// Writes the bands of plane n of a group into their tensor; see analysis.h. With a stride of 2, a real band is
// written with imaginary parts 0.
template <typename T>
struct BandWriter {
  const PlaneGroup<T>& group;
  int64_t n;
  StreamingVecWriter out;

  SL_FN int64_t offset(int64_t k, int64_t block, int64_t y) const {
    return ((n * group.K + k) * group.h + y) * group.w + block * kSimdWidth<T>;
  }
  SL_FN void write_complex(int64_t k, int64_t block, int64_t y, ComplexVec<T> value) const {
    const int64_t count = 2 * (group.w - block * kSimdWidth<T>);
    T* at = group.bands_out + 2 * offset(k, block, y);
    out.write_two(at, interleave_low(value.re, value.im), interleave_high(value.re, value.im),
                  count);
  }
  SL_FN void write_real(int64_t k, int64_t block, int64_t y, Vec<T> value) const {
    if (group.stride == 2) return write_complex(k, block, y, {value, Vec<T>{}});
    out.write(group.bands_out + offset(k, block, y), value, group.w - block * kSimdWidth<T>);
  }
  SL_FN void write_two_blocks(int64_t k, int64_t block, int64_t y, ComplexVec<T> value) const {
    if (group.stride == 2) {
      write_complex(k, block, y, {value.re, Vec<T>{}});
      return write_complex(k, block + 1, y, {value.im, Vec<T>{}});
    }
    T* at = group.bands_out + offset(k, block, y);
    out.write_two(at, value.re, value.im, group.w - block * kSimdWidth<T>);
  }
};

}  // namespace

template <typename T>
void run_split(SplitPlanesArgs<T>& args) {
  PlaneArgs<T>& planes = args.planes;
  const FilterMemory<T> filters({&planes.groups});
  const FftTables<T> ffts(planes);
  const Analysis<T> analysis{planes, ffts};
  const StreamingVecWriter out(args.result_bytes);
  const auto work = [&](int64_t n, const Workspace<T>& workspace, const auto& executor) {
    analysis.transform(args.in + n * planes.H * planes.W, workspace, executor);
    for (const PlaneGroup<T>& group : planes.groups)
      analysis.bands(group, workspace, executor, BandWriter<T>{group, n, out});
  };
  for_each_item(planes, ffts, work);
}

}  // namespace steerlens::STEERLENS_CPU_LEVEL
