// split_planes: what split_bands does, and its FFTs, plane by plane, so that no spectrum leaves a core's
// caches. It, merge_planes and morph_planes are the CPU's alone, float32 (on devices the FFT is a library's,
// between kernels); choice.h tells where they can be had.
#pragma once

#include "../../args/planes.h"
#include "analysis.h"

STEERLENS_LANES_BEGIN
namespace steerlens {
namespace {

// The bands of plane n of a part as they lie in its tensor; see analysis.h.
struct BandSink {
  const PlanePart& part;
  int64_t n;
  bool streamed;

  SL_FN int64_t sample(int64_t k, int64_t block, int64_t y) const {
    return ((n * part.K + k) * part.h + y) * part.w + block * kLanes;
  }
  SL_FN void complex(int64_t k, int64_t block, int64_t y, CplxLanes value) const {
    const int64_t count = 2 * (part.w - block * kLanes);
    float* at = part.bands_out + 2 * sample(k, block, y);
    put_two(at, zip_low(value.re, value.im), zip_high(value.re, value.im), count, streamed);
  }
  SL_FN void real(int64_t k, int64_t block, int64_t y, Lanes value) const {
    put_lanes(part.bands_out + sample(k, block, y), value, part.w - block * kLanes, streamed);
  }
  SL_FN void two(int64_t k, int64_t block, int64_t y, CplxLanes value) const {
    float* at = part.bands_out + sample(k, block, y);
    put_two(at, value.re, value.im, part.w - block * kLanes, streamed);
  }
};

std::vector<Tensor> split_planes(Tensor planes, std::vector<Tensor> filters,
                                 std::vector<int64_t> heights, std::vector<int64_t> turns,
                                 std::vector<int64_t> forms) {
  const auto run = [&](const PlaneBank& bank, const float* first, int64_t bytes) {
    const Ffts ffts(bank);
    const Analysis analysis(bank, ffts);
    const bool streamed = bytes > kStreamedBytes;
    const auto work = [&](int64_t n, const Scratch& scratch, const auto& steps) {
      const float* plane = first + n * bank.H * bank.W;
      analysis.transform(plane, scratch.spectrum, scratch.between, steps);
      for (const PlanePart& part : bank.parts)
        analysis.bands(part, scratch.spectrum, scratch.between, steps, BandSink{part, n, streamed});
    };
    for_planes(planes, bank, ffts, work);
  };
  return split_planes_with(kLanes, planes, filters, heights, turns, forms, run);
}

}  // namespace
}  // namespace steerlens
STEERLENS_LANES_END
