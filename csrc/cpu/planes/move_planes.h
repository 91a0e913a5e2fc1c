// move_planes: from the results of step_planes to frames by extrapolate, merge_planes and a clip, plane by plane. A
// frame's coefficients are computed when the synthesis reads them.
#pragma once

#include "coefficients.h"
#include "filter_blocks.h"
#include "streaming_vec_writer.h"
#include "synthesis.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

struct LineRows {
  const ComplexVec* line;
  SL_FN ComplexVec operator()(int64_t y) const { return line[y]; }
};

// The bands of one group at one frame: a reader for synthesis.h, which computes a column block when it is read.
struct FrameReader {
  const MotionKernels& motion;
  const GroupCoefficients& coefficients;
  Factors factors;

  LineRows complex_band(int64_t i, int64_t block, FftScratch& scratch) const {
    motion.complex_frame(coefficients.column_block(i, block), factors, scratch.line.get());
    return {scratch.line.get()};
  }
  LineRows two_bands(int64_t i, int64_t block, FftScratch& scratch) const {
    ComplexVec* line = scratch.line.get();
    compute_real(2 * i, block, &line->re);
    compute_real(2 * i + 1, block, &line->im);
    return {line};
  }
  LineRows two_blocks(int64_t i, int64_t q, FftScratch& scratch) const {
    ComplexVec* line = scratch.line.get();
    compute_real(2 * i, 2 * q, &line->re);
    if (2 * q + 1 < coefficients.blocks)
      compute_real(2 * i, 2 * q + 1, &line->im);
    else
      for (int64_t y = 0; y < coefficients.h; ++y) line[y].im = FloatVec{};
    return {line};
  }

 private:
  // Computes real values into `parts`, the real or the imaginary parts of a line.
  void compute_real(int64_t k, int64_t block, FloatVec* parts) const {
    motion.real_frame(coefficients.column_block(k, block), factors, parts);
  }
};

// Writes values of frames, clipped.
struct FrameValues {
  float low, high;
  StreamingVecWriter out;

  // NaN stays NaN.
  SL_FN FloatVec clip(FloatVec value) const {
    const FloatVec above = value < low ? low : value;
    return above > high ? high : above;
  }
  SL_FN ComplexVec clip(ComplexVec value) const { return {clip(value.re), clip(value.im)}; }
  SL_FN void write(float* to, ComplexVec value, int64_t count) const {
    const ComplexVec clipped = clip(value);
    out.write_two(to, clipped.re, clipped.im, count);
  }

  // Writes `count` values of an image.
  template <typename Executor>
  void copy(const float* image, int64_t count, float* to, const Executor& executor) const {
    executor.run(pairs_of(blocks_of(count)), [&](int64_t i, FftScratch&) {
      const int64_t at = 2 * i * kSimdWidth;
      write(to + at, load_vec_pair(image + at, count - at), count - at);
    });
  }
};

struct FrameSynthesis {
  const MorphArgs& args;
  const MotionKernels& motion;
  const Synthesis& synthesis;

  // One frame of a plane, but for its residual: put(block, y, ComplexVec), as in synthesis.h.
  template <typename Executor, typename Put>
  void frame(const Groups& groups, Factors factors, const Workspace& workspace,
             const Executor& executor, const Put& put) const {
    synthesis.clear(workspace, executor);
    for (size_t i = 0; i < args.synthesis.groups.size(); ++i)
      synthesis.add(args.synthesis.groups[i], workspace, executor,
                    FrameReader{motion, groups[i], factors});
    synthesis.image(workspace, executor, put);
  }
};

struct MorphFrames {
  const MorphArgs& args;
  const FrameSynthesis& synthesis;
  FrameValues values;

  // All frames of plane n.
  template <typename Executor>
  void plane(int64_t n, const Groups& groups, const Workspace& workspace,
             const Executor& executor) const {
    executor.run_large(args.frames, workspace,
                       [&](int64_t f, const Workspace& own, const auto& frame_executor) {
                         frame(f, n, groups, own, frame_executor);
                       });
  }

 private:
  template <typename Executor>
  void frame(int64_t f, int64_t n, const Groups& groups, const Workspace& workspace,
             const Executor& executor) const {
    const int64_t area = args.synthesis.H * args.synthesis.W, at = args.factor_index(f, n);
    float* to = args.out + (f * args.synthesis.count + n) * area;
    if (!args.moves(f, n)) return values.copy(args.images + n * area, area, to, executor);
    const Factors factors = {args.phase_factors[at], args.amplitude_factors[at]};
    synthesis.frame(groups, factors, workspace, executor, FrameWriter{*this, groups.back(), to});
  }

  // Writes two vectors of a row of a frame, with the residual added; see synthesis.h.
  struct FrameWriter {
    const MorphFrames& frames;
    const GroupCoefficients& residual;
    float* to;

    SL_FN void operator()(int64_t block, int64_t y, ComplexVec value) const {
      const int64_t W = frames.args.synthesis.W;
      frames.values.write(to + y * W + block * kSimdWidth,
                          value + residual.read_two_blocks(block, y), W - block * kSimdWidth);
    }
  };
};

inline FrameValues frame_values(const MorphArgs& args) {
  const PlaneArgs& planes = args.synthesis;
  const int64_t bytes = args.frames * planes.count * planes.H * planes.W * int64_t{sizeof(float)};
  return {args.low, args.high, StreamingVecWriter(bytes)};
}

}  // namespace

void run_move(MorphArgs& args) {
  const FilterMemory filters({&args.synthesis.groups});
  const MotionKernels motion = motion_kernels(args);
  const FftTables ffts(args.analysis);
  const Synthesis synthesis{args.synthesis, ffts};
  const FrameSynthesis frame_synthesis{args, motion, synthesis};
  const MorphFrames frames{args, frame_synthesis, frame_values(args)};
  const auto work = [&](int64_t n, const Workspace& workspace, const auto& executor) {
    frames.plane(n, stored_groups(n, args, motion), workspace, executor);
  };
  for_each_item(args.synthesis, ffts, work, {0, args.frames});
}

}  // namespace steerlens::STEERLENS_CPU_LEVEL
