// The second half of a morph: computes frames (extrapolate, merge_planes and a clip). The coefficients of a frame are not
// stored, but computed when the synthesis reads them.
#pragma once

#include "coefficients.h"
#include "streaming_vec_writer.h"
#include "synthesis.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

template <typename T>
struct LineRows {
  const ComplexVec<T>* line;
  SL_FN ComplexVec<T> operator()(int64_t y) const { return line[y]; }
};

// The bands of one group at one frame, which the synthesis reads by the functions below (see synthesis.h). Each column
// block is computed when it is read.
template <typename T>
struct FrameReader {
  const MotionKernels<T>& motion;
  const GroupCoefficients<T>& coefficients;
  Factors<T> factors;

  LineRows<T> complex_band(int64_t i, int64_t block, FftScratch<T>& scratch) const {
    motion.complex_frame(coefficients.column_block(i, block), factors, scratch.line.get());
    return {scratch.line.get()};
  }
  LineRows<T> two_bands(int64_t i, int64_t block, FftScratch<T>& scratch) const {
    ComplexVec<T>* line = scratch.line.get();
    compute_real(2 * i, block, &line->re);
    compute_real(2 * i + 1, block, &line->im);
    return {line};
  }
  LineRows<T> two_blocks(int64_t i, int64_t q, FftScratch<T>& scratch) const {
    ComplexVec<T>* line = scratch.line.get();
    compute_real(2 * i, 2 * q, &line->re);
    if (2 * q + 1 < coefficients.blocks)
      compute_real(2 * i, 2 * q + 1, &line->im);
    else
      for (int64_t y = 0; y < coefficients.h; ++y) line[y].im = Vec<T>{};
    return {line};
  }

 private:
  // Computes a column block of real band k. `parts` are the real or the imaginary parts of a line.
  void compute_real(int64_t k, int64_t block, Vec<T>* parts) const {
    motion.real_frame(coefficients.column_block(k, block), factors, parts);
  }
};

// Writes values of frames, clipped.
template <typename T>
struct FrameValues {
  T low, high;
  StreamingVecWriter out;

  // NaN stays NaN.
  SL_FN Vec<T> clip(Vec<T> value) const {
    const Vec<T> raised = value < low ? low : value;
    return raised > high ? high : raised;
  }
  SL_FN ComplexVec<T> clip(ComplexVec<T> value) const { return {clip(value.re), clip(value.im)}; }
  SL_FN void write(T* to, ComplexVec<T> value, int64_t count) const {
    const ComplexVec<T> clipped = clip(value);
    out.write_two(to, clipped.re, clipped.im, count);
  }

  // Writes `count` values of an image.
  template <typename Executor>
  void copy(const T* image, int64_t count, T* to, const Executor& executor) const {
    executor.run(pairs_of(blocks_of<T>(count)), [&](int64_t i, FftScratch<T>&) {
      const int64_t at = 2 * i * kSimdWidth<T>;
      write(to + at, load_vec_pair(image + at, count - at), count - at);
    });
  }
};

template <typename T>
struct FrameSynthesis {
  const MorphArgs<T>& args;
  const MotionKernels<T>& motion;
  const Synthesis<T>& synthesis;

  // Computes one frame of a plane, without its residual, and passes it to `put`, see Synthesis::image.
  template <typename Executor, typename Put>
  void frame(const Groups<T>& groups, Factors<T> factors, const Workspace<T>& workspace,
             const Executor& executor, const Put& put) const {
    synthesis.clear(workspace, executor);
    for (size_t i = 0; i < args.synthesis.groups.size(); ++i)
      synthesis.add(args.synthesis.groups[i], workspace, executor,
                    FrameReader<T>{motion, groups[i], factors});
    synthesis.image(workspace, executor, put);
  }
};

template <typename T>
struct MorphFrames {
  const MorphArgs<T>& args;
  const FrameSynthesis<T>& synthesis;
  FrameValues<T> values;

  // Writes all frames of plane n.
  template <typename Executor>
  void plane(int64_t n, const Groups<T>& groups, const Workspace<T>& workspace,
             const Executor& executor) const {
    executor.run_large(
        args.frames, workspace,
        [&](int64_t f, const Workspace<T>& task_workspace, const auto& frame_executor) {
          frame(f, n, groups, task_workspace, frame_executor);
        });
  }

 private:
  template <typename Executor>
  void frame(int64_t f, int64_t n, const Groups<T>& groups, const Workspace<T>& workspace,
             const Executor& executor) const {
    const int64_t area = args.synthesis.H * args.synthesis.W, at = args.factor_index(f, n);
    T* to = args.out + (f * args.synthesis.count + n) * area;
    if (!args.moves(f, n)) return values.copy(args.images + n * area, area, to, executor);
    const Factors<T> factors = {args.phase_factors[at], args.amplitude_factors[at]};
    synthesis.frame(groups, factors, workspace, executor, FrameWriter{*this, groups.back(), to});
  }

  // Writes two vectors of a row of a frame, with the residual added; see synthesis.h.
  struct FrameWriter {
    const MorphFrames<T>& frames;
    const GroupCoefficients<T>& residual;
    T* to;

    SL_FN void operator()(int64_t block, int64_t y, ComplexVec<T> value) const {
      const int64_t W = frames.args.synthesis.W;
      frames.values.write(to + y * W + block * kSimdWidth<T>,
                          value + residual.read_two_blocks(block, y), W - block * kSimdWidth<T>);
    }
  };
};

template <typename T>
inline FrameValues<T> frame_values(const MorphArgs<T>& args) {
  const PlaneArgs<T>& planes = args.synthesis;
  const int64_t bytes = args.frames * planes.count * planes.H * planes.W * int64_t{sizeof(T)};
  return {args.low, args.high, StreamingVecWriter(bytes)};
}

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
