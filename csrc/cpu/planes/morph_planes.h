// morph_planes: split_planes of an image and of its gradient, step, extrapolate, merge_planes and the clip, plane
// by plane. The coefficients of one plane are all that is in memory between image and frames (some MiB for each
// thread at 224 x 224; a large plane is shared by all threads). They are stored by column blocks, as the
// transforms write and read them.
#pragma once

#include "../../kernel_args/morph.h"
#include "analysis.h"
#include "filter_blocks.h"
#include "motion.h"
#include "streaming_vec_writer.h"
#include "synthesis.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// The coefficients of one group, or their gradient: [K, column blocks, h], `fields` vectors each. A writer for
// analysis.h.
struct GroupCoefficients {
  FloatVec* data;
  int64_t blocks, h;
  int fields;

  SL_FN FloatVec* at(int64_t k, int64_t block, int64_t y) const {
    return data + ((k * blocks + block) * h + y) * fields;
  }
  SL_FN CoefficientSpan span(int64_t k, int64_t block, int64_t count) const {
    return {reinterpret_cast<float*>(at(k, block, 0)), count, fields};
  }
  CoefficientSpan column_block(int64_t k, int64_t block) const { return span(k, block, h); }
  CoefficientSpan band(int64_t k) const { return span(k, 0, blocks * h); }

  SL_FN void write_complex(int64_t k, int64_t block, int64_t y, ComplexVec value) const {
    FloatVec* to = at(k, block, y);
    to[0] = value.re;
    to[1] = value.im;
  }
  SL_FN void write_real(int64_t k, int64_t block, int64_t y, FloatVec value) const {
    *at(k, block, y) = value;
  }
  SL_FN void write_two_blocks(int64_t k, int64_t block, int64_t y, ComplexVec value) const {
    write_real(k, block, y, value.re);
    if (block + 1 < blocks) write_real(k, block + 1, y, value.im);
  }
  // Of orientation 0, what write_two_blocks wrote.
  SL_FN ComplexVec read_two_blocks(int64_t block, int64_t y) const {
    return {*at(0, block, y), block + 1 < blocks ? *at(0, block + 1, y) : FloatVec{}};
  }
};

// Vectors of one field of a group's coefficients.
inline int64_t vectors_of(const PlaneGroup& group) {
  return group.K * blocks_of(group.w) * group.h;
}
inline int gradient_fields(const PlaneGroup& group) { return group.form == Form::kComplex ? 2 : 1; }

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
  // Into the real or the imaginary parts of a line.
  void compute_real(int64_t k, int64_t block, FloatVec* parts) const {
    motion.real_frame(coefficients.column_block(k, block), factors, parts);
  }
};

struct Morph {
  const MorphArgs& args;
  const MotionKernels& motion;
  const Analysis& analysis;
  const Synthesis& synthesis;
  StreamingVecWriter out;

  // Groups that move, then the residual.
  using Groups = std::vector<GroupCoefficients>;

  // All frames of plane n.
  template <typename Executor>
  void plane(int64_t n, const Workspace& workspace, const Executor& executor) const {
    const int64_t at = n * args.analysis.H * args.analysis.W;
    FloatVec* memory = workspace.extra;
    Groups groups;
    analysis.transform(args.images + at, workspace, executor);
    for (const PlaneGroup& group : args.analysis.groups) {
      const int fields = group.form == Form::kComplex ? motion.fields : 1;
      groups.push_back({memory, blocks_of(group.w), group.h, fields});
      memory += fields * vectors_of(group);
      analysis.bands(group, workspace, executor, groups.back());
    }
    analysis.transform(args.gradients + at, workspace, executor);
    for (size_t i = 0; i < args.gradient.size(); ++i) {
      const PlaneGroup& group = args.gradient[i];
      const GroupCoefficients gradient = {memory, blocks_of(group.w), group.h,
                                          gradient_fields(group)};
      analysis.bands(group, workspace, executor, gradient);
      executor.run(group.K,
                   [&](int64_t k, FftScratch&) { step_band(groups[i].band(k), gradient.band(k)); });
    }
    executor.run_large(args.frames, workspace,
                       [&](int64_t f, const Workspace& own, const auto& frame_executor) {
                         frame(f, n, groups, own, frame_executor);
                       });
  }

 private:
  // One orientation's step: its largest amplitude, then every coefficient.
  void step_band(const CoefficientSpan& c, const CoefficientSpan& gradient) const {
    alignas(64) float largest[kSimdWidth] = {};
    for (int64_t i = 0; i < c.count; ++i)
      for (int64_t lane = 0; lane < kSimdWidth; ++lane) {
        const float* f = c.at(i) + lane;
        largest[lane] =
            larger_amplitude(amplitude_of(Cplx<float>{f[0], f[kSimdWidth]}), largest[lane]);
      }
    for (int64_t lane = 1; lane < kSimdWidth; ++lane)
      largest[0] = larger_amplitude(largest[lane], largest[0]);
    motion.take_step(args, c, gradient, step_threshold(args.floor, largest[0]));
  }

  template <typename Executor>
  void frame(int64_t f, int64_t n, const Groups& groups, const Workspace& workspace,
             const Executor& executor) const {
    const int64_t H = args.synthesis.H, W = args.synthesis.W, at = args.factor_index(f, n);
    float* to = args.out + (f * args.synthesis.count + n) * H * W;
    if (!args.moves(f, n)) return copy_image(args.images + n * H * W, to, executor);
    const Factors factors = {args.phase_factors[at], args.amplitude_factors[at]};
    synthesis.clear(workspace, executor);
    for (size_t i = 0; i < args.synthesis.groups.size(); ++i)
      synthesis.add(args.synthesis.groups[i], workspace, executor,
                    FrameReader{motion, groups[i], factors});
    synthesis.image(workspace, executor, FrameWriter{*this, groups.back(), to});
  }

  // Writes two vectors of a row of a frame, with the residual added; see synthesis.h.
  struct FrameWriter {
    const Morph& morph;
    const GroupCoefficients& residual;
    float* to;

    SL_FN void operator()(int64_t block, int64_t y, ComplexVec value) const {
      const int64_t W = morph.args.synthesis.W;
      morph.write(to + y * W + block * kSimdWidth, value + residual.read_two_blocks(block, y),
                  W - block * kSimdWidth);
    }
  };

  template <typename Executor>
  void copy_image(const float* image, float* to, const Executor& executor) const {
    const int64_t area = args.synthesis.H * args.synthesis.W;
    executor.run(pairs_of(blocks_of(area)), [&](int64_t i, FftScratch&) {
      const int64_t at = 2 * i * kSimdWidth;
      write(to + at, load_vec_pair(image + at, area - at), area - at);
    });
  }

  // NaN stays NaN.
  SL_FN FloatVec clip(FloatVec value) const {
    const FloatVec above = value < args.low ? args.low : value;
    return above > args.high ? args.high : above;
  }
  SL_FN void write(float* to, ComplexVec value, int64_t count) const {
    out.write_two(to, clip(value.re), clip(value.im), count);
  }
};

// Vectors of memory for one plane: the coefficients of all groups, the gradient of one, the residual.
int64_t vectors_per_plane(const MorphArgs& args, const MotionKernels& motion) {
  int64_t coefficients = 0, gradient = 0;
  for (const PlaneGroup& group : args.gradient) {
    coefficients += motion.fields * vectors_of(group);
    gradient = std::max(gradient, gradient_fields(group) * vectors_of(group));
  }
  return coefficients + gradient + vectors_of(args.analysis.groups.back());
}

}  // namespace

void run_morph(MorphArgs& args) {
  std::vector<PlaneGroup>& groups = args.synthesis.groups;
  const FilterMemory filters({&args.analysis.groups, &groups});
  for (size_t i = 0; i < groups.size();
       ++i) {  // the gradient's analysis reads those of the synthesis
    args.gradient[i].filter_blocks = groups[i].filter_blocks;
    args.gradient[i].zero_blocks = groups[i].zero_blocks;
  }
  MotionKernels motion;
  for_edit(args.moves_phase(), args.moves_amplitude(), args.rule, MakeMotionKernels{motion});
  const PlaneArgs& planes = args.analysis;
  const FftTables ffts(planes);
  const Analysis analysis{planes, ffts};
  const Synthesis synthesis{args.synthesis, ffts};
  const int64_t bytes = args.frames * planes.count * planes.H * planes.W * int64_t{sizeof(float)};
  const Morph morph{args, motion, analysis, synthesis, StreamingVecWriter(bytes)};
  const auto work = [&](int64_t n, const Workspace& workspace, const auto& executor) {
    morph.plane(n, workspace, executor);
  };
  for_each_plane(planes, ffts, work, {vectors_per_plane(args, motion), args.frames});
}

}  // namespace steerlens::STEERLENS_CPU_LEVEL
