// merge_planes: merge_bands and the FFTs before and after it, plane by plane; see split_planes.h.
#pragma once

#include "filter_blocks.h"
#include "streaming_vec_writer.h"
#include "synthesis.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// Row y of a column block of a band in memory; zeros beyond the last column.
template <typename T>
struct ComplexRows {
  const T* from;
  int64_t w, count;
  SL_FN ComplexVec<T> operator()(int64_t y) const { return load_complex(from + 2 * y * w, count); }
};
template <typename T>
struct RealRows {
  const T* from;
  int64_t stride, w, count;  // stride 2: the real parts of complex numbers
  SL_FN Vec<T> operator()(int64_t y) const {
    const T* row = from + stride * y * w;
    return stride == 2 ? load_complex(row, count).re : load_vec(row, count);
  }
};
template <typename T>
struct TwoRealRows {
  RealRows<T> first, second;
  SL_FN ComplexVec<T> operator()(int64_t y) const { return {first(y), second(y)}; }
};

// Reads the bands of plane n of a group from their tensor; see synthesis.h.
template <typename T>
struct BandReader {
  const PlaneGroup<T>& group;
  int64_t n;

  SL_FN ComplexRows<T> complex_band(int64_t i, int64_t block, FftScratch<T>&) const {
    return {group.bands + 2 * offset(i, block), group.w, group.w - block * kSimdWidth<T>};
  }
  SL_FN TwoRealRows<T> two_bands(int64_t i, int64_t block, FftScratch<T>&) const {
    return {real(2 * i, block), real(2 * i + 1, block)};
  }
  // Transform i reads band 2 i, which has no partner. In Form::kPairs, it is stored like a pair, as complex band i.
  SL_FN TwoRealRows<T> two_blocks(int64_t i, int64_t q, FftScratch<T>&) const {
    const int64_t stored_index = group.form == Form::kPairs ? i : 2 * i;
    return {real(stored_index, 2 * q), real(stored_index, 2 * q + 1)};
  }

 private:
  SL_FN int64_t offset(int64_t stored_index, int64_t block) const {
    return (n * group.num_stored() + stored_index) * group.h * group.w + block * kSimdWidth<T>;
  }
  SL_FN RealRows<T> real(int64_t stored_index, int64_t block) const {
    const T* from = group.bands + group.stride * offset(stored_index, block);
    return {from, group.stride, group.w, group.w - block * kSimdWidth<T>};
  }
};

// Writes two vectors of a row of a plane, with the residual added; see synthesis.h.
template <typename T>
struct PlaneWriter {
  const T* residual;  // null where there is none
  T* out;
  int64_t W;
  StreamingVecWriter writer;

  SL_FN void operator()(int64_t block, int64_t y, ComplexVec<T> value) const {
    const int64_t at = y * W + block * kSimdWidth<T>, count = W - block * kSimdWidth<T>;
    if (residual) value = value + load_vec_pair(residual + at, count);
    writer.write_two(out + at, value.re, value.im, count);
  }
};

}  // namespace

template <typename T>
void run_merge(MergePlanesArgs<T>& args) {
  PlaneArgs<T>& planes = args.planes;
  const FilterMemory<T> filters({&planes.groups});
  const FftTables<T> ffts(planes);
  const Synthesis<T> synthesis{planes, ffts};
  const int64_t area = planes.H * planes.W;
  const StreamingVecWriter writer(planes.count * area * int64_t{sizeof(T)});
  const auto work = [&](int64_t n, const Workspace<T>& workspace, const auto& executor) {
    synthesis.clear(workspace, executor);
    for (const PlaneGroup<T>& group : planes.groups)
      synthesis.add(group, workspace, executor, BandReader<T>{group, n});
    const T* residual = args.residual ? args.residual + n % args.residual_planes * area : nullptr;
    synthesis.image(workspace, executor,
                    PlaneWriter<T>{residual, args.out + n * area, planes.W, writer});
  };
  for_each_item(planes, ffts, work);
}

}  // namespace steerlens::STEERLENS_CPU_LEVEL
