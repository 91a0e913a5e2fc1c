// morph_planes: split_planes of an image and of its gradient, step, extrapolate, merge_planes and the clip,
// plane by plane. Between them nothing lies in memory but what moves of a thread's plane (some MiB at
// 224 x 224; of a large one that all threads share): columns side by side, block by block, as the transforms
// give and take it.
#pragma once

#include "../../args/morph.h"
#include "analysis.h"
#include "motion.h"
#include "synthesis.h"

STEERLENS_LANES_BEGIN
namespace steerlens {
namespace {

// A part's coefficients, or its gradient, in memory: [K, blocks, h] lines; a sink of analysis.h.
struct PartLanes {
  Lanes* at;
  int64_t blocks, h;
  int fields;

  SL_FN Run run(int64_t k, int64_t block, int64_t count) const {
    Lanes* first = at + (k * blocks + block) * h * fields;
    return {reinterpret_cast<float*>(first), count, fields};
  }
  Run column(int64_t k, int64_t block) const { return run(k, block, h); }
  Run band(int64_t k) const { return run(k, 0, blocks * h); }

  SL_FN void complex(int64_t k, int64_t block, int64_t y, CplxLanes value) const {
    Lanes* to = at + ((k * blocks + block) * h + y) * fields;
    to[0] = value.re;
    to[1] = value.im;
  }
  SL_FN void real(int64_t k, int64_t block, int64_t y, Lanes value) const {
    at[((k * blocks + block) * h + y) * fields] = value;
  }
  SL_FN void two(int64_t k, int64_t block, int64_t y, CplxLanes value) const {
    real(k, block, y, value.re);
    if (block + 1 < blocks) real(k, block + 1, y, value.im);
  }
  // What two() wrote of the first orientation.
  SL_FN CplxLanes two_of(int64_t block, int64_t y) const {
    return {at[(block * h + y) * fields],
            block + 1 < blocks ? at[((block + 1) * h + y) * fields] : Lanes{}};
  }
};

inline int64_t lines_of(const PlanePart& part) { return part.K * panels_of(part.w) * part.h; }
inline int gradient_fields(const PlanePart& part) { return part.form == Form::kBoth ? 2 : 1; }

struct LineRows {
  const CplxLanes* line;
  SL_FN CplxLanes operator()(int64_t y) const { return line[y]; }
};

// A part at one frame: a source of synthesis.h, which computes a block of columns when it is asked for it.
struct PartFrame {
  const Motion& motion;
  const PartLanes& part;
  Factors factors;

  LineRows complex(int64_t i, int64_t block, Lines& lines) const {
    motion.both(part.column(i, block), factors, lines.line.get());
    return {lines.line.get()};
  }
  LineRows two(int64_t i, int64_t block, Lines& lines) const {
    write(2 * i, block, 0, lines);
    write(2 * i + 1, block, 1, lines);
    return {lines.line.get()};
  }
  LineRows single(int64_t i, int64_t q, Lines& lines) const {
    write(2 * i, 2 * q, 0, lines);
    if (2 * q + 1 < part.blocks)
      write(2 * i, 2 * q + 1, 1, lines);
    else
      for (int64_t y = 0; y < part.h; ++y) lines.line[y].im = Lanes{};
    return {lines.line.get()};
  }

 private:
  void write(int64_t k, int64_t block, int which, Lines& lines) const {
    CplxLanes* line = lines.line.get();
    motion.real(part.column(k, block), factors, which ? &line->im : &line->re);
  }
};

struct Morph {
  const MorphArgs& args;
  const Motion& motion;
  const Analysis& analysis;
  const Synthesis& synthesis;
  bool streamed;

  using Parts = std::vector<PartLanes>;

  template <typename Steps>
  void plane(int64_t n, const Scratch& scratch, const Steps& steps) const {
    const int64_t at = n * args.analysis.H * args.analysis.W;
    Lanes* memory = scratch.more;
    Parts parts;
    analysis.transform(args.images + at, scratch.spectrum, scratch.between, steps);
    for (const PlanePart& part : args.analysis.parts) {
      const int fields = part.form == Form::kBoth ? motion.fields : 1;
      parts.push_back({memory, panels_of(part.w), part.h, fields});
      memory += fields * lines_of(part);
      analysis.bands(part, scratch.spectrum, scratch.between, steps, parts.back());
    }
    analysis.transform(args.gradients + at, scratch.spectrum, scratch.between, steps);
    for (size_t i = 0; i < args.gradient.size(); ++i) {
      const PlanePart& part = args.gradient[i];
      const PartLanes gradient = {memory, panels_of(part.w), part.h, gradient_fields(part)};
      analysis.bands(part, scratch.spectrum, scratch.between, steps, gradient);
      steps(part.K, [&](int64_t k, Lines&) { move(parts[i].band(k), gradient.band(k)); });
    }
    for (int64_t f = 0; f < args.frames; ++f) frame(f, n, parts, scratch, steps);
  }

  // One orientation's step: its largest amplitude, then each coefficient's.
  void move(const Run& c, const Run& gradient) const {
    alignas(64) float largest[kLanes] = {};
    for (int64_t i = 0; i < c.count; ++i)
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const float* f = c.line(i) + lane;
        largest[lane] = larger_amplitude(amplitude_of(Cplx<float>{f[0], f[kLanes]}), largest[lane]);
      }
    for (int64_t lane = 1; lane < kLanes; ++lane)
      largest[0] = larger_amplitude(largest[lane], largest[0]);
    motion.hold(args, c, gradient, step_threshold(args.floor, largest[0]));
  }

  template <typename Steps>
  void frame(int64_t f, int64_t n, const Parts& parts, const Scratch& scratch,
             const Steps& steps) const {
    const int64_t H = args.synthesis.H, W = args.synthesis.W, at = args.factor_index(f, n);
    float* out = args.out + (f * args.synthesis.count + n) * H * W;
    if (!args.moves(f, n)) return source(args.images + n * H * W, out, steps);
    const Factors factors = {args.phase_factors[at], args.amplitude_factors[at]};
    synthesis.clear(scratch.spectrum, steps);
    for (size_t i = 0; i < args.synthesis.parts.size(); ++i)
      synthesis.add(args.synthesis.parts[i], scratch.spectrum, scratch.between, steps,
                    PartFrame{motion, parts[i], factors});
    const PartLanes& rest = parts.back();
    const auto put = [&](int64_t block, int64_t y, CplxLanes value) SL_LAMBDA {
      write(out + y * W + block * kLanes, value + rest.two_of(block, y), W - block * kLanes);
    };
    synthesis.image(scratch.spectrum, scratch.between, steps, put);
  }

  template <typename Steps>
  void source(const float* image, float* out, const Steps& steps) const {
    const int64_t area = args.synthesis.H * args.synthesis.W;
    steps(pairs_of(panels_of(area)), [&](int64_t i, Lines&) {
      const int64_t at = 2 * i * kLanes;
      write(out + at, load_two(image + at, area - at), area - at);
    });
  }

  // Clipped; NaN stays NaN.
  SL_FN Lanes clipped(Lanes value) const {
    const Lanes above = value < args.low ? args.low : value;
    return above > args.high ? args.high : above;
  }
  SL_FN void write(float* to, CplxLanes value, int64_t count) const {
    put_two(to, clipped(value.re), clipped(value.im), count, streamed);
  }
};

// Lanes of memory for one plane: every part's coefficients, one part's gradient, the rest of the image.
int64_t lanes_of_plane(const MorphArgs& args, const Motion& motion) {
  int64_t coefficients = 0, gradient = 0;
  for (const PlanePart& part : args.gradient) {
    coefficients += motion.fields * lines_of(part);
    gradient = std::max(gradient, gradient_fields(part) * lines_of(part));
  }
  return coefficients + gradient + lines_of(args.analysis.parts.back());
}

void run_morph(const Tensor& images, const MorphArgs& args) {
  Motion motion;
  for_edit(args.moves_phase(), args.moves_amplitude(), args.rule, MakeMotion{motion});
  const PlaneBank& bank = args.analysis;
  const Ffts ffts(bank);
  const Analysis analysis(bank, ffts);
  const Synthesis synthesis(args.synthesis, ffts);
  const int64_t bytes = args.frames * bank.count * bank.H * bank.W * int64_t{sizeof(float)};
  const Morph morph{args, motion, analysis, synthesis, bytes > kStreamedBytes};
  const auto work = [&](int64_t n, const Scratch& scratch, const auto& steps) {
    morph.plane(n, scratch, steps);
  };
  for_planes(images, bank, ffts, work, lanes_of_plane(args, motion));
}

Tensor morph_planes(Tensor images, Tensor gradients, Tensor phase_factors, Tensor amplitude_factors,
                    std::vector<Tensor> analysis, std::vector<Tensor> synthesis,
                    std::vector<int64_t> heights, int64_t turns, int64_t edit, int64_t rule,
                    bool both, double eps, double floor, double low, double high) {
  const auto run = [&](const MorphArgs& args) { run_morph(images, args); };
  return morph_planes_with(
      kLanes, {images, gradients, phase_factors, amplitude_factors, analysis, synthesis}, heights,
      turns, edit, rule, both, eps, floor, low, high, run);
}

}  // namespace
}  // namespace steerlens
STEERLENS_LANES_END
