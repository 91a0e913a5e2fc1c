// The analysis of one plane: its spectrum, and from that its bands. The op decides how bands are stored, by the writer
// that it passes. Each call of the writer's functions gets row y of a column block:
//
// - write_complex(k, block, y, ComplexVec): of complex band k
// - write_real(k, block, y, Vec): of real band k
// - write_two_blocks(k, block, y, ComplexVec): of real band k, in this block (re) and in the next one (im)
#pragma once

#include "../../math/bands.h"
#include "executor.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

template <typename T>
struct Analysis {
  const PlaneArgs<T>& args;
  const FftTables<T>& ffts;

  // plane [H, W] -> spectrum[block * W + x], the elements of a vector being the rows of a row block.
  template <typename Executor>
  void transform(const T* plane, const Workspace<T>& workspace, const Executor& executor) const {
    executor.run(pairs_of(blocks_of<T>(args.W)), [&](int64_t q, FftScratch<T>& scratch) {
      transform_columns(plane, q, scratch, workspace.intermediate);
    });
    executor.run(blocks_of<T>(args.H), [&](int64_t block, FftScratch<T>& scratch) {
      transform_rows(workspace.intermediate, block, scratch, workspace.spectrum);
    });
  }

  // The bands of one group.
  template <typename Executor, typename Writer>
  void bands(const PlaneGroup<T>& group, const Workspace<T>& workspace, const Executor& executor,
             const Writer& writer) const {
    const ComplexVec<T>* spectrum = workspace.spectrum;
    ComplexVec<T>* intermediate = workspace.intermediate;
    for (int64_t i = 0; i < group.transforms(); ++i) {
      executor.run(static_cast<int64_t>(group.row_blocks.size()),
                   [&](int64_t block, FftScratch<T>& scratch) {
                     filter_rows(group, i, block, spectrum + group.row_blocks[block].index * args.W,
                                 scratch, intermediate + block * padded<T>(group.w));
                   });
      const int64_t blocks = blocks_of<T>(group.w);
      executor.run(group.unpaired(i) ? pairs_of(blocks) : blocks,
                   [&](int64_t block_or_pair, FftScratch<T>& scratch) {
                     if (group.form == Form::kComplex)
                       complex_band(group, i, block_or_pair, intermediate, scratch, writer);
                     else if (group.unpaired(i))
                       unpaired_band(group, i, block_or_pair, intermediate, scratch, writer);
                     else
                       two_bands(group, i, block_or_pair, intermediate, scratch, writer);
                   });
    }
  }

 private:
  void transform_columns(const T* plane, int64_t q, FftScratch<T>& scratch,
                         ComplexVec<T>* intermediate) const {
    const int64_t W = args.W, count = W - 2 * q * kSimdWidth<T>;
    const T* first = plane + 2 * q * kSimdWidth<T>;
    const auto read = [&](int64_t y) SL_LAMBDA { return load_vec_pair(first + y * W, count); };
    forward_real_columns(ffts.of(args.H), scratch, read, W, q, intermediate);
  }

  void transform_rows(const ComplexVec<T>* intermediate, int64_t block, FftScratch<T>& scratch,
                      ComplexVec<T>* spectrum) const {
    ComplexVec<T>* out = spectrum + block * args.W;
    const auto write = [out](int64_t x, ComplexVec<T> value) SL_LAMBDA { out[x] = value; };
    forward_rows(ffts.of(args.W), scratch, intermediate, args.H, args.image_blocks[block], write);
  }

  void filter_rows(const PlaneGroup<T>& group, int64_t i, int64_t block,
                   const ComplexVec<T>* spectrum, FftScratch<T>& scratch,
                   ComplexVec<T>* out) const {
    const FilterRows<T> filter(group, i, block);
    if (filter.zero) {  // zeros, even if the spectrum is not finite
      for (int64_t x = 0; x < group.w; ++x) out[x] = ComplexVec<T>{};
      return;
    }
    const auto read = [&](int64_t x) SL_LAMBDA {
      return filter.at(x, 1) * spectrum[image_column(x, group.w, args.W)];
    };
    inverse_rows(ffts.of(group.w), scratch, read, out);
  }

  template <typename Writer>
  void complex_band(const PlaneGroup<T>& group, int64_t k, int64_t block,
                    const ComplexVec<T>* intermediate, FftScratch<T>& scratch,
                    const Writer& writer) const {
    const auto write = [&](int64_t y, ComplexVec<T> value)
                           SL_LAMBDA { writer.write_complex(k, block, y, value); };
    inverse_columns(ffts.of(group.h), scratch, intermediate, group.w, group.row_blocks, block,
                    write);
  }

  // Two orientations, the real and imaginary parts of one inverse transform.
  template <typename Writer>
  void two_bands(const PlaneGroup<T>& group, int64_t i, int64_t block,
                 const ComplexVec<T>* intermediate, FftScratch<T>& scratch,
                 const Writer& writer) const {
    const auto write = [&](int64_t y, ComplexVec<T> value) SL_LAMBDA {
      writer.write_real(2 * i, block, y, value.re);
      writer.write_real(2 * i + 1, block, y, value.im);
    };
    inverse_columns(ffts.of(group.h), scratch, intermediate, group.w, group.row_blocks, block,
                    write);
  }

  // The last of an odd number of orientations, two column blocks in one transform.
  template <typename Writer>
  void unpaired_band(const PlaneGroup<T>& group, int64_t i, int64_t q,
                     const ComplexVec<T>* intermediate, FftScratch<T>& scratch,
                     const Writer& writer) const {
    const auto write = [&](int64_t y, ComplexVec<T> value)
                           SL_LAMBDA { writer.write_two_blocks(2 * i, 2 * q, y, value); };
    inverse_real_columns(ffts.of(group.h), scratch, intermediate, group.w, group.row_blocks, q,
                         write);
  }
};

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
