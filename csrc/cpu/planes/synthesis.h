// The synthesis of one plane: bands are added to a spectrum, from which the plane is computed. The op passes a
// reader, which decides how bands are read. Each function of the reader returns a function that maps y to row y of
//
// - complex_band(i, block, scratch): a column block of the stored band i: complex, or a pair of real bands
// - two_bands(i, block, scratch): the same column block of the real bands 2 i (re) and 2 i + 1 (im)
// - two_blocks(i, q, scratch): the column blocks 2 q (re) and 2 q + 1 (im) of the real band 2 i
#pragma once

#include "../../math/bands.h"
#include "executor.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

template <typename T>
struct Synthesis {
  const PlaneArgs<T>& args;
  const FftTables<T>& ffts;

  template <typename Executor>
  void clear(const Workspace<T>& workspace, const Executor& executor) const {
    executor.run(blocks_of<T>(args.H), [&](int64_t block, FftScratch<T>&) {
      for (int64_t x = 0; x < args.W; ++x) workspace.spectrum[block * args.W + x] = ComplexVec<T>{};
    });
  }

  // Adds the bands of one group to the spectrum.
  template <typename Executor, typename Reader>
  void add(const PlaneGroup<T>& group, const Workspace<T>& workspace, const Executor& executor,
           const Reader& reader) const {
    for (int64_t i = 0; i < group.transforms(); ++i) {
      transform_columns(group, i, workspace.intermediate, executor, reader);
      executor.run(static_cast<int64_t>(group.row_blocks.size()),
                   [&](int64_t block, FftScratch<T>& scratch) {
                     add_rows(group, i, block, workspace.intermediate, scratch,
                              workspace.spectrum + group.row_blocks[block].index * args.W);
                   });
    }
  }

  // Computes the plane from the spectrum. Passes two vectors of row y at a time to put(block, y, ComplexVec): column
  // block `block` is the real part, the next block the imaginary part.
  template <typename Executor, typename Put>
  void image(const Workspace<T>& workspace, const Executor& executor, const Put& put) const {
    ComplexVec<T>* intermediate = workspace.intermediate;
    executor.run(blocks_of<T>(args.H), [&](int64_t block, FftScratch<T>& scratch) {
      image_rows(workspace.spectrum, block, scratch, intermediate);
    });
    executor.run(pairs_of(blocks_of<T>(args.W)), [&](int64_t q, FftScratch<T>& scratch) {
      image_columns(intermediate, q, scratch, put);
    });
  }

 private:
  // Computes the FFTs of the columns in the i-th transform.
  template <typename Executor, typename Reader>
  void transform_columns(const PlaneGroup<T>& group, int64_t i, ComplexVec<T>* intermediate,
                         const Executor& executor, const Reader& reader) const {
    const int64_t blocks = blocks_of<T>(group.w);
    executor.run(group.unpaired(i) ? pairs_of(blocks) : blocks,
                 [&](int64_t block, FftScratch<T>& scratch) {
                   transform_block(group, i, block, intermediate, scratch, reader);
                 });
  }

  // `block` is a column block or, if transform i is unpaired, a pair of them.
  template <typename Reader>
  void transform_block(const PlaneGroup<T>& group, int64_t i, int64_t block,
                       ComplexVec<T>* intermediate, FftScratch<T>& scratch,
                       const Reader& reader) const {
    const FftTable<T>& fft = ffts.of(group.h);
    ComplexVec<T>* to = intermediate + block * group.h;
    if (group.unpaired(i))
      forward_real_columns(fft, scratch, reader.two_blocks(i, block, scratch), group.w, block,
                           intermediate);
    else if (group.form == Form::kReal)
      forward_columns(fft, scratch, reader.two_bands(i, block, scratch), to);
    else
      forward_columns(fft, scratch, reader.complex_band(i, block, scratch), to);
  }

  void image_rows(const ComplexVec<T>* spectrum, int64_t block, FftScratch<T>& scratch,
                  ComplexVec<T>* intermediate) const {
    const ComplexVec<T>* from = spectrum + block * args.W;
    const auto read = [from](int64_t x) SL_LAMBDA { return from[x]; };
    inverse_rows(ffts.of(args.W), scratch, read, intermediate + block * padded<T>(args.W));
  }

  template <typename Put>
  void image_columns(const ComplexVec<T>* intermediate, int64_t q, FftScratch<T>& scratch,
                     const Put& put) const {
    const auto write = [&](int64_t y, ComplexVec<T> value) SL_LAMBDA { put(2 * q, y, value); };
    inverse_real_columns(ffts.of(args.H), scratch, intermediate, args.W, args.image_blocks, q,
                         write);
  }

  // Computes the FFTs of the rows, multiplies them by the conjugate filter and adds them to the image's spectrum.
  void add_rows(const PlaneGroup<T>& group, int64_t i, int64_t block,
                const ComplexVec<T>* intermediate, FftScratch<T>& scratch,
                ComplexVec<T>* spectrum) const {
    const FilterRows<T> filter(group, i, block);
    const auto write = [&](int64_t x, ComplexVec<T> value) SL_LAMBDA {
      ComplexVec<T>& to = spectrum[image_column(x, group.w, args.W)];
      to = to + filter.at(x, -1) * value;
    };
    forward_rows(ffts.of(group.w), scratch, intermediate, group.h, group.row_blocks[block], write);
  }
};

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
