// The motion of coefficients side by side: step, and extrapolate, for lines of them in memory.
#pragma once

#include "../../args/morph.h"
#include "../../math/extrapolate.h"
#include "lanes.h"

STEERLENS_LANES_BEGIN
namespace steerlens {
namespace {

// How coefficients of an Extrapolation E lie side by side: a field is one number of each. First what
// E multiplies by a rotation (the coefficient, or its direction), then the phase step, the amplitude and its
// step where E reads them.
template <typename E>
struct Layout {
  static constexpr int kPhase = 2, kAmplitude = kPhase + E::kMovesPhase;
  static constexpr int kAmplitudeStep = kAmplitude + E::kNeedsAmplitude;
  static constexpr int kFields = kAmplitudeStep + E::kMovesAmplitude;

  SL_FN static Coefficient<float> load(const float* f) {
    Coefficient<float> p = {};
    const Cplx<float> base = {f[0], f[kLanes]};
    (E::kNeedsAmplitude ? p.direction : p.c) = base;
    if constexpr (E::kNeedsAmplitude) p.amplitude = f[kAmplitude * kLanes];
    if constexpr (E::kMovesPhase) p.phase_step = f[kPhase * kLanes];
    if constexpr (E::kMovesAmplitude) p.amplitude_step = f[kAmplitudeStep * kLanes];
    return p;
  }
  SL_FN static void store(float* f, const Coefficient<float>& p) {
    const Cplx<float> base = E::kNeedsAmplitude ? p.direction : p.c;
    f[0] = base.re;
    f[kLanes] = base.im;
    if constexpr (E::kNeedsAmplitude) f[kAmplitude * kLanes] = p.amplitude;
    if constexpr (E::kMovesPhase) f[kPhase * kLanes] = p.phase_step;
    if constexpr (E::kMovesAmplitude) f[kAmplitudeStep * kLanes] = p.amplitude_step;
  }
};

// Some lines of coefficients, or of their gradient: so many fields each.
struct Run {
  float* at;
  int64_t count;
  int fields;
  SL_FN float* line(int64_t i) const { return at + i * fields * kLanes; }
};

struct Factors {
  float phase, amplitude;
};

// What is compiled for each E. `hold` turns coefficients into what frames read, given their gradient;
// `real` writes one part of each number of `line`, `both` all of it.
struct Motion {
  int fields;
  void (*hold)(const MorphArgs&, const Run& c, const Run& gradient, float threshold);
  void (*real)(const Run& c, Factors, Lanes* line);
  void (*both)(const Run& c, Factors, CplxLanes* line);
};

template <typename E, int kParts, Rule kRule>
SL_FN void hold_run(const MorphArgs& args, const Run& c, const Run& gradient, float threshold) {
  for (int64_t i = 0; i < c.count; ++i) {
    float* f = c.line(i);
    const float* g = gradient.line(i);
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const Cplx<float> coefficient = {f[lane], f[kLanes + lane]};
      const Cplx<float> slope = {g[lane], kParts == 2 ? g[(kParts - 1) * kLanes + lane] : 0.0f};
      const PolarPair<float> s = step_above(coefficient, slope, args.eps, kRule, threshold);
      Layout<E>::store(f + lane, E::load(coefficient, s.phase, s.amplitude));
    }
  }
}

template <typename E>
void hold(const MorphArgs& args, const Run& c, const Run& gradient, float threshold) {
  const bool polar = args.rule == Rule::kPolar;
  if (gradient.fields == 2)
    polar ? hold_run<E, 2, Rule::kPolar>(args, c, gradient, threshold)
          : hold_run<E, 2, Rule::kComplex>(args, c, gradient, threshold);
  else
    polar ? hold_run<E, 1, Rule::kPolar>(args, c, gradient, threshold)
          : hold_run<E, 1, Rule::kComplex>(args, c, gradient, threshold);
}

template <typename E>
void real_frame(const Run& c, Factors factors, Lanes* line) {
  for (int64_t i = 0; i < c.count; ++i) {
    const float* f = c.line(i);
    alignas(64) float value[kLanes];
    for (int64_t lane = 0; lane < kLanes; ++lane)
      value[lane] = E::real(Layout<E>::load(f + lane), factors.phase, factors.amplitude);
    line[2 * i] = load_lanes(value);
  }
}

template <typename E>
void both_frame(const Run& c, Factors factors, CplxLanes* line) {
  for (int64_t i = 0; i < c.count; ++i) {
    const float* f = c.line(i);
    alignas(64) float re[kLanes], im[kLanes];
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const Cplx<float> value =
          E::value(Layout<E>::load(f + lane), factors.phase, factors.amplitude);
      re[lane] = value.re;
      im[lane] = value.im;
    }
    line[i] = {load_lanes(re), load_lanes(im)};
  }
}

struct MakeMotion {
  Motion& motion;
  template <typename E>
  void run() const {
    motion = {Layout<E>::kFields, hold<E>, real_frame<E>, both_frame<E>};
  }
};

}  // namespace
}  // namespace steerlens
STEERLENS_LANES_END
