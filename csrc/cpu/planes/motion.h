// step and extrapolate for the coefficients of step_planes and move_planes, kSimdWidth of them at a time.
#pragma once

#include <cmath>

#include "../../kernel_args/morph.h"
#include "../../math/extrapolate.h"
#include "simd.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// How the coefficients of an Extrapolation E are stored: kSimdWidth coefficients are an array of kFields
// vectors, each with one number of every coefficient. Fields 0 and 1 are the real and imaginary part of
// Coefficient::base; the others exist if E reads them.
template <typename E>
struct Layout {
  static constexpr int kPhase = 2, kAmplitude = kPhase + E::kMovesPhase;
  static constexpr int kAmplitudeStep = kAmplitude + E::kNeedsAmplitude;
  static constexpr int kFields = kAmplitudeStep + E::kMovesAmplitude;

  SL_FN static Coefficient<float> load(const float* f) {
    Coefficient<float> p = {};
    p.base = {f[0], f[kSimdWidth]};
    if constexpr (E::kNeedsAmplitude) p.amplitude = f[kAmplitude * kSimdWidth];
    if constexpr (E::kMovesPhase) p.phase_step = f[kPhase * kSimdWidth];
    if constexpr (E::kMovesAmplitude) p.amplitude_step = f[kAmplitudeStep * kSimdWidth];
    return p;
  }
  SL_FN static void store(float* f, const Coefficient<float>& p) {
    f[0] = p.base.re;
    f[kSimdWidth] = p.base.im;
    if constexpr (E::kNeedsAmplitude) f[kAmplitude * kSimdWidth] = p.amplitude;
    if constexpr (E::kMovesPhase) f[kPhase * kSimdWidth] = p.phase_step;
    if constexpr (E::kMovesAmplitude) f[kAmplitudeStep * kSimdWidth] = p.amplitude_step;
  }
};

// `count` times kSimdWidth consecutive coefficients, or gradients of coefficients. kSimdWidth of them take `fields`
// vectors.
struct CoefficientSpan {
  float* data;
  int64_t count;
  int fields;
  SL_FN float* at(int64_t i) const { return data + i * fields * kSimdWidth; }
};

// The factors of one frame.
struct Factors {
  float phase, amplitude;
};

// The sum over some coefficients of |dc/df|^2 at factors f = 0, and their largest |phase step|.
struct StepSize {
  float squared_speed, phase;
};

// Functions that are compiled for each Extrapolation E.
struct MotionKernels {
  int fields;  // of a coefficient
  // Replaces coefficients, given their gradient, by the fields from which frames are computed (Layout).
  void (*take_step)(const MorphArgs&, const CoefficientSpan& c, const CoefficientSpan& gradient,
                    float threshold);
  // The step size of coefficients that take_step has replaced.
  StepSize (*step_size)(const CoefficientSpan& c);
  // The values in one frame: the real parts, written to every second vector of `line`, or the complex numbers.
  void (*real_frame)(const CoefficientSpan& c, Factors, FloatVec* line);
  void (*complex_frame)(const CoefficientSpan& c, Factors, ComplexVec* line);
};

template <typename E, int kParts, Rule kRule>
SL_FN void take_steps(const MorphArgs& args, const CoefficientSpan& c,
                      const CoefficientSpan& gradient, float threshold) {
  for (int64_t i = 0; i < c.count; ++i) {
    float* f = c.at(i);
    const float* g = gradient.at(i);
    for (int64_t lane = 0; lane < kSimdWidth; ++lane) {
      const Cplx<float> coefficient = {f[lane], f[kSimdWidth + lane]};
      const Cplx<float> slope = {g[lane], kParts == 2 ? g[(kParts - 1) * kSimdWidth + lane] : 0.0f};
      const PolarPair<float> s = step_above(coefficient, slope, args.eps, kRule, threshold);
      Layout<E>::store(f + lane, E::load(coefficient, s.phase, s.amplitude));
    }
  }
}

template <typename E>
void take_step(const MorphArgs& args, const CoefficientSpan& c, const CoefficientSpan& gradient,
               float threshold) {
  const bool polar = args.rule == Rule::kPolar;
  if (gradient.fields == 2)
    polar ? take_steps<E, 2, Rule::kPolar>(args, c, gradient, threshold)
          : take_steps<E, 2, Rule::kComplex>(args, c, gradient, threshold);
  else
    polar ? take_steps<E, 1, Rule::kPolar>(args, c, gradient, threshold)
          : take_steps<E, 1, Rule::kComplex>(args, c, gradient, threshold);
}

template <typename E>
StepSize step_size(const CoefficientSpan& c) {
  alignas(64) float sums[kSimdWidth] = {}, largest[kSimdWidth] = {};
  for (int64_t i = 0; i < c.count; ++i)
    for (int64_t lane = 0; lane < kSimdWidth; ++lane) {
      const Coefficient<float> p = Layout<E>::load(c.at(i) + lane);
      sums[lane] += E::squared_speed(p);
      if constexpr (E::kMovesPhase)
        largest[lane] = larger_amplitude(std::fabs(p.phase_step), largest[lane]);
    }
  StepSize size = {};
  for (int64_t lane = 0; lane < kSimdWidth; ++lane) {
    size.squared_speed += sums[lane];
    size.phase = larger_amplitude(largest[lane], size.phase);
  }
  return size;
}

template <typename E>
void real_frame(const CoefficientSpan& c, Factors factors, FloatVec* line) {
  for (int64_t i = 0; i < c.count; ++i) {
    const float* f = c.at(i);
    alignas(64) float value[kSimdWidth];
    for (int64_t lane = 0; lane < kSimdWidth; ++lane)
      value[lane] = E::real(Layout<E>::load(f + lane), factors.phase, factors.amplitude);
    line[2 * i] = load_vec(value);
  }
}

template <typename E>
void complex_frame(const CoefficientSpan& c, Factors factors, ComplexVec* line) {
  for (int64_t i = 0; i < c.count; ++i) {
    const float* f = c.at(i);
    alignas(64) float re[kSimdWidth], im[kSimdWidth];
    for (int64_t lane = 0; lane < kSimdWidth; ++lane) {
      const Cplx<float> value =
          E::value(Layout<E>::load(f + lane), factors.phase, factors.amplitude);
      re[lane] = value.re;
      im[lane] = value.im;
    }
    line[i] = {load_vec(re), load_vec(im)};
  }
}

struct MakeMotionKernels {
  MotionKernels& motion;
  template <typename E>
  void run() const {
    motion = {Layout<E>::kFields, take_step<E>, step_size<E>, real_frame<E>, complex_frame<E>};
  }
};

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
