// merge_planes: what merge_bands does, and its FFTs, plane by plane; see split_planes.h.
#pragma once

#include "../../args/planes.h"
#include "synthesis.h"

STEERLENS_LANES_BEGIN
namespace steerlens {
namespace {

// Rows of a block of bands in memory; zeros beyond the last column.
struct ComplexRows {
  const float* from;
  int64_t w, count;
  SL_FN CplxLanes operator()(int64_t y) const { return load_complex(from + 2 * y * w, count); }
};
struct RealRows {
  const float* from;
  int64_t stride, w, count;  // of complex samples, stride 2, the real parts
  SL_FN Lanes operator()(int64_t y) const {
    const float* row = from + stride * y * w;
    return stride == 2 ? load_complex(row, count).re : load_lanes(row, count);
  }
};
struct TwoRows {
  RealRows first, second;
  SL_FN CplxLanes operator()(int64_t y) const { return {first(y), second(y)}; }
};

// The bands of plane n of a part: a source of synthesis.h.
struct BandSource {
  const PlanePart& part;
  int64_t n;

  SL_FN ComplexRows complex(int64_t i, int64_t block, Lines&) const {
    return {part.bands + 2 * sample(i, block), part.w, part.w - block * kLanes};
  }
  SL_FN TwoRows two(int64_t i, int64_t block, Lines&) const {
    return {real(2 * i, block), real(2 * i + 1, block)};
  }
  // One without a partner lies in pairs as if it had one.
  SL_FN TwoRows single(int64_t i, int64_t q, Lines&) const {
    const int64_t stored = part.form == Form::kPairs ? i : 2 * i;
    return {real(stored, 2 * q), real(stored, 2 * q + 1)};
  }

 private:
  SL_FN int64_t sample(int64_t stored, int64_t block) const {
    return (n * part.stored() + stored) * part.h * part.w + block * kLanes;
  }
  SL_FN RealRows real(int64_t stored, int64_t block) const {
    const float* from = part.bands + part.stride * sample(stored, block);
    return {from, part.stride, part.w, part.w - block * kLanes};
  }
};

Tensor merge_planes(std::vector<Tensor> bands, std::vector<Tensor> filters,
                    std::vector<int64_t> heights, std::vector<int64_t> turns,
                    std::vector<int64_t> forms, std::optional<Tensor> rest, int64_t height,
                    int64_t width) {
  const auto run = [&](const PlaneBank& bank, const float* rest, int64_t rest_planes, float* out) {
    const Ffts ffts(bank);
    const Synthesis synthesis(bank, ffts);
    const int64_t area = bank.H * bank.W;
    const bool streamed = bank.count * area * int64_t{sizeof(float)} > kStreamedBytes;
    const auto work = [&](int64_t n, const Scratch& scratch, const auto& steps) {
      synthesis.clear(scratch.spectrum, steps);
      for (const PlanePart& part : bank.parts)
        synthesis.add(part, scratch.spectrum, scratch.between, steps, BandSource{part, n});
      const auto put = [&](int64_t block, int64_t y, CplxLanes value) SL_LAMBDA {
        const int64_t at = y * bank.W + block * kLanes, count = bank.W - block * kLanes;
        if (rest) value = value + load_two(rest + n % rest_planes * area + at, count);
        put_two(out + n * area + at, value.re, value.im, count, streamed);
      };
      synthesis.image(scratch.spectrum, scratch.between, steps, put);
    };
    for_planes(bands[0], bank, ffts, work);
  };
  return merge_planes_with(kLanes, bands, filters, heights, turns, forms, rest, height, width, run);
}

}  // namespace
}  // namespace steerlens
STEERLENS_LANES_END
