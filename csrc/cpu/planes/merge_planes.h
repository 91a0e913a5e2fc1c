// merge_planes: what merge_bands does and the FFTs around it, plane by plane; see split_planes.h.
#pragma once

#include "../../args/planes.h"
#include "filter_blocks.h"
#include "streaming_vec_writer.h"
#include "synthesis.h"

STEERLENS_SIMD_BEGIN
namespace steerlens {
namespace {

// Row y of a column block of a band in memory; zeros beyond the last column.
struct ComplexRows {
  const float* from;
  int64_t w, count;
  SL_FN ComplexVec operator()(int64_t y) const { return load_complex(from + 2 * y * w, count); }
};
struct RealRows {
  const float* from;
  int64_t stride, w, count;  // stride 2: the real parts of complex samples
  SL_FN FloatVec operator()(int64_t y) const {
    const float* row = from + stride * y * w;
    return stride == 2 ? load_complex(row, count).re : load_vec(row, count);
  }
};
struct TwoRealRows {
  RealRows first, second;
  SL_FN ComplexVec operator()(int64_t y) const { return {first(y), second(y)}; }
};

// Reads the bands of plane n of a group from their tensor; see synthesis.h.
struct BandReader {
  const PlaneGroup& group;
  int64_t n;

  SL_FN ComplexRows complex_band(int64_t i, int64_t block, FftScratch&) const {
    return {group.bands + 2 * sample(i, block), group.w, group.w - block * kSimdWidth};
  }
  SL_FN TwoRealRows two_bands(int64_t i, int64_t block, FftScratch&) const {
    return {real(2 * i, block), real(2 * i + 1, block)};
  }
  // In pairs, a band without a partner is stored as if it had one.
  SL_FN TwoRealRows two_blocks(int64_t i, int64_t q, FftScratch&) const {
    const int64_t stored_index = group.form == Form::kPairs ? i : 2 * i;
    return {real(stored_index, 2 * q), real(stored_index, 2 * q + 1)};
  }

 private:
  SL_FN int64_t sample(int64_t stored_index, int64_t block) const {
    return (n * group.num_stored() + stored_index) * group.h * group.w + block * kSimdWidth;
  }
  SL_FN RealRows real(int64_t stored_index, int64_t block) const {
    const float* from = group.bands + group.stride * sample(stored_index, block);
    return {from, group.stride, group.w, group.w - block * kSimdWidth};
  }
};

void run_merge(MergePlanes& p) {
  const PlaneArgs& args = p.args;
  const Tensor filters = lay_out_filters(p.planes, {&p.args.groups});
  const FftTables ffts(args);
  const Synthesis synthesis{args, ffts};
  const int64_t area = args.H * args.W;
  const StreamingVecWriter writer(args.count * area * int64_t{sizeof(float)});
  const float* residual = p.residual.has_value() ? const_data<float>(*p.residual) : nullptr;
  const int64_t residual_planes = p.residual.has_value() ? p.residual->size(0) : 1;
  float* out = mutable_data<float>(p.planes);
  const auto work = [&](int64_t n, const Workspace& workspace, const auto& executor) {
    synthesis.clear(workspace, executor);
    for (const PlaneGroup& group : args.groups)
      synthesis.add(group, workspace, executor, BandReader{group, n});
    const auto put = [&](int64_t block, int64_t y, ComplexVec value) SL_LAMBDA {
      const int64_t at = y * args.W + block * kSimdWidth, count = args.W - block * kSimdWidth;
      if (residual)
        value = value + load_vec_pair(residual + n % residual_planes * area + at, count);
      writer.write_two(out + n * area + at, value.re, value.im, count);
    };
    synthesis.image(workspace, executor, put);
  };
  for_each_plane(p.planes, args, ffts, work);
}

Tensor merge_planes(std::vector<Tensor> bands, std::vector<Tensor> filters,
                    std::vector<int64_t> i_powers, std::vector<int64_t> forms,
                    std::optional<Tensor> residual, int64_t height, int64_t width) {
  auto p =
      prepare_merge_planes(kSimdWidth, bands, filters, {i_powers, forms}, residual, height, width);
  if (p.args.count > 0) run_merge(p);
  return p.planes;
}

}  // namespace
}  // namespace steerlens
STEERLENS_SIMD_END
