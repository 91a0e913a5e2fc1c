// split_planes: split_bands with the FFTs around it, plane by plane, so that a spectrum stays within a core's
// caches. Like all ops on whole planes, only in float32, and only on CPUs with SIMD registers (capability.h).
#pragma once

#include "analysis.h"
#include "filter_blocks.h"
#include "streaming_vec_writer.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// Writes the bands of plane n of a group into their tensor; see analysis.h. With a stride of 2, a real band is
// written with imaginary parts 0.
struct BandWriter {
  const PlaneGroup& group;
  int64_t n;
  StreamingVecWriter out;

  SL_FN int64_t sample(int64_t k, int64_t block, int64_t y) const {
    return ((n * group.K + k) * group.h + y) * group.w + block * kSimdWidth;
  }
  SL_FN void write_complex(int64_t k, int64_t block, int64_t y, ComplexVec value) const {
    const int64_t count = 2 * (group.w - block * kSimdWidth);
    float* at = group.bands_out + 2 * sample(k, block, y);
    out.write_two(at, interleave_low(value.re, value.im), interleave_high(value.re, value.im),
                  count);
  }
  SL_FN void write_real(int64_t k, int64_t block, int64_t y, FloatVec value) const {
    if (group.stride == 2) return write_complex(k, block, y, {value, FloatVec{}});
    out.write(group.bands_out + sample(k, block, y), value, group.w - block * kSimdWidth);
  }
  SL_FN void write_two_blocks(int64_t k, int64_t block, int64_t y, ComplexVec value) const {
    if (group.stride == 2) {
      write_complex(k, block, y, {value.re, FloatVec{}});
      return write_complex(k, block + 1, y, {value.im, FloatVec{}});
    }
    float* at = group.bands_out + sample(k, block, y);
    out.write_two(at, value.re, value.im, group.w - block * kSimdWidth);
  }
};

}  // namespace

void run_split(SplitPlanesArgs& args) {
  PlaneArgs& planes = args.planes;
  const FilterMemory filters({&planes.groups});
  const FftTables ffts(planes);
  const Analysis analysis{planes, ffts};
  const StreamingVecWriter out(args.result_bytes);
  const auto work = [&](int64_t n, const Workspace& workspace, const auto& executor) {
    analysis.transform(args.in + n * planes.H * planes.W, workspace, executor);
    for (const PlaneGroup& group : planes.groups)
      analysis.bands(group, workspace, executor, BandWriter{group, n, out});
  };
  for_each_item(planes, ffts, work);
}

}  // namespace steerlens::STEERLENS_CPU_LEVEL
