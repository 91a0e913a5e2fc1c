// The formulas of the ops `step` and `extrapolate`, for kSimdWidth coefficients at a time; used by all morphs.
#pragma once

#include <cmath>

#include "../../kernel_args/morph.h"
#include "../../math/extrapolate.h"
#include "../../streaming_stores.h"
#include "simd.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// How the coefficients of an Extrapolation E are stored. kSimdWidth coefficients are kFields vectors; vector i has
// field i of these coefficients. Fields 0 and 1 are the real and imaginary part of Coefficient::base. The others exist
// if E reads them.
template <typename E>
struct Layout {
  static constexpr int kPhaseStep = 2, kAmplitude = kPhaseStep + E::kMovesPhase;
  static constexpr int kAmplitudeStep = kAmplitude + E::kNeedsAmplitude;
  static constexpr int kFields = kAmplitudeStep + E::kMovesAmplitude;

  template <typename T>
  SL_FN static Coefficient<T> load(const T* f) {
    Coefficient<T> p = {};
    p.base = {f[0], f[kSimdWidth<T>]};
    if constexpr (E::kNeedsAmplitude) p.amplitude = f[kAmplitude * kSimdWidth<T>];
    if constexpr (E::kMovesPhase) p.phase_step = f[kPhaseStep * kSimdWidth<T>];
    if constexpr (E::kMovesAmplitude) p.amplitude_step = f[kAmplitudeStep * kSimdWidth<T>];
    return p;
  }
  template <typename T>
  SL_FN static void store(T* f, const Coefficient<T>& p) {
    f[0] = p.base.re;
    f[kSimdWidth<T>] = p.base.im;
    if constexpr (E::kNeedsAmplitude) f[kAmplitude * kSimdWidth<T>] = p.amplitude;
    if constexpr (E::kMovesPhase) f[kPhaseStep * kSimdWidth<T>] = p.phase_step;
    if constexpr (E::kMovesAmplitude) f[kAmplitudeStep * kSimdWidth<T>] = p.amplitude_step;
  }
  // The coefficient. Only to be used before store_step, which replaces it.
  template <typename T>
  SL_FN static Cplx<T> coefficient(const T* f) {
    return {f[0], f[kSimdWidth<T>]};
  }
  template <typename T>
  SL_FN static void store_step(T* f, Cplx<T> c, PolarPair<T> step) {
    store(f, E::load(c, step.phase, step.amplitude));
  }
};

// `count` times kSimdWidth consecutive coefficients, or gradients of coefficients. kSimdWidth of them take `fields`
// vectors.
template <typename T>
struct CoefficientSpan {
  T* data;
  int64_t count;
  int fields;
  SL_FN T* at(int64_t i) const { return data + i * fields * kSimdWidth<T>; }
};

// The factors of one frame.
template <typename T>
struct Factors {
  T phase, amplitude;
};

// The sum over some coefficients of |dc/df|^2 at factors f = 0, and their largest |phase step|.
template <typename T>
struct StepSize {
  T squared_speed, phase;
};

// Functions that are compiled for each Extrapolation E, and for each AnchoredMove<E> (math/anchor.h).
template <typename T>
struct MotionKernels {
  int fields;  // fields of a coefficient
  T (*largest_amplitude)(const CoefficientSpan<T>& c);
  // Replaces coefficients, given their gradient, by the fields from which frames are computed (Layout).
  void (*take_step)(const MorphArgs<T>&, const CoefficientSpan<T>& c,
                    const CoefficientSpan<T>& gradient, T threshold);
  // The step size of coefficients that take_step has replaced.
  StepSize<T> (*step_size)(const CoefficientSpan<T>& c);
  // The coefficients in one frame. real_frame writes their real parts to line[0], line[2], ...: `line` points to the real
  // or to the imaginary part of the first of several complex vectors. complex_frame writes complex numbers.
  void (*real_frame)(const CoefficientSpan<T>& c, Factors<T>, Vec<T>* line);
  void (*complex_frame)(const CoefficientSpan<T>& c, Factors<T>, ComplexVec<T>* line);
};

template <typename E, typename T>
T largest_amplitude(const CoefficientSpan<T>& c) {
  alignas(64) T largest[kSimdWidth<T>] = {};
  for (int64_t i = 0; i < c.count; ++i) {
    SL_NO_UNROLL
    for (int64_t lane = 0; lane < kSimdWidth<T>; ++lane) {
      const Cplx<T> coefficient = Layout<E>::coefficient(c.at(i) + lane);
      largest[lane] = larger(amplitude_of(coefficient), largest[lane]);
    }
  }
  for (int64_t lane = 1; lane < kSimdWidth<T>; ++lane)
    largest[0] = larger(largest[lane], largest[0]);
  return largest[0];
}

template <typename E, int kGradientFields, Rule kRule, typename T>
SL_FN void take_steps(const MorphArgs<T>& args, const CoefficientSpan<T>& c,
                      const CoefficientSpan<T>& gradient, T threshold) {
  for (int64_t i = 0; i < c.count; ++i) {
    T* f = c.at(i);
    const T* g = gradient.at(i);
    SL_NO_UNROLL
    for (int64_t lane = 0; lane < kSimdWidth<T>; ++lane) {
      const Cplx<T> coefficient = Layout<E>::coefficient(f + lane);
      // kGradientFields - 1 is a field in both cases, so that compilers do not warn.
      const Cplx<T> slope = {
          g[lane], kGradientFields == 2 ? g[(kGradientFields - 1) * kSimdWidth<T> + lane] : T(0)};
      const PolarPair<T> s = step_above(coefficient, slope, args.eps, kRule, threshold);
      Layout<E>::store_step(f + lane, coefficient, s);
    }
  }
}

template <typename E, Rule kRule, typename T>
SL_FN void take_steps_by(const MorphArgs<T>& args, const CoefficientSpan<T>& c,
                         const CoefficientSpan<T>& gradient, T threshold) {
  gradient.fields == 2 ? take_steps<E, 2, kRule>(args, c, gradient, threshold)
                       : take_steps<E, 1, kRule>(args, c, gradient, threshold);
}

template <typename E, typename T>
void take_step(const MorphArgs<T>& args, const CoefficientSpan<T>& c,
               const CoefficientSpan<T>& gradient, T threshold) {
  // The rule of a step is args.rule. If amplitudes move, it is also the rule of E, which is known to the compiler.
  if constexpr (E::kMovesAmplitude)
    take_steps_by<E, E::kAmplitudeRule>(args, c, gradient, threshold);
  else if (args.rule == Rule::kPolar)
    take_steps_by<E, Rule::kPolar>(args, c, gradient, threshold);
  else
    take_steps_by<E, Rule::kComplex>(args, c, gradient, threshold);
}

template <typename E, typename T>
StepSize<T> step_size(const CoefficientSpan<T>& c) {
  alignas(64) T sums[kSimdWidth<T>] = {}, largest[kSimdWidth<T>] = {};
  for (int64_t i = 0; i < c.count; ++i) {
    SL_NO_UNROLL
    for (int64_t lane = 0; lane < kSimdWidth<T>; ++lane) {
      const auto p = Layout<E>::load(c.at(i) + lane);
      sums[lane] += E::squared_speed(p);
      if constexpr (E::kMovesPhase) largest[lane] = larger(std::fabs(p.phase_step), largest[lane]);
    }
  }
  StepSize<T> size = {};
  for (int64_t lane = 0; lane < kSimdWidth<T>; ++lane) {
    size.squared_speed += sums[lane];
    size.phase = larger(largest[lane], size.phase);
  }
  return size;
}

// Prefetches the coefficients that a frame needs 16 iterations after those at f. Without this, morphs in float64 took 7 %
// longer (AVX-512).
template <typename E, typename T>
SL_FN void prefetch_coefficients(const T* f) {
  constexpr int64_t kBytes = Layout<E>::kFields * kVecBytes;  // bytes of one iteration
  const char* later = reinterpret_cast<const char*>(f) + 16 * kBytes;
  for (int64_t at = 0; at < kBytes; at += int64_t{kCacheLine}) SL_PREFETCH(later + at);
}

template <typename E, typename T>
void real_frame(const CoefficientSpan<T>& c, Factors<T> factors, Vec<T>* line) {
  for (int64_t i = 0; i < c.count; ++i) {
    const T* f = c.at(i);
    prefetch_coefficients<E>(f);
    alignas(64) T value[kSimdWidth<T>];
    for (int64_t lane = 0; lane < kSimdWidth<T>; ++lane)
      value[lane] = E::real(Layout<E>::load(f + lane), factors.phase, factors.amplitude);
    line[2 * i] = load_vec(value);
  }
}

template <typename E, typename T>
void complex_frame(const CoefficientSpan<T>& c, Factors<T> factors, ComplexVec<T>* line) {
  for (int64_t i = 0; i < c.count; ++i) {
    const T* f = c.at(i);
    prefetch_coefficients<E>(f);
    alignas(64) T re[kSimdWidth<T>], im[kSimdWidth<T>];
    for (int64_t lane = 0; lane < kSimdWidth<T>; ++lane) {
      const Cplx<T> value = E::value(Layout<E>::load(f + lane), factors.phase, factors.amplitude);
      re[lane] = value.re;
      im[lane] = value.im;
    }
    line[i] = {load_vec(re), load_vec(im)};
  }
}

template <typename T>
struct MakeMotionKernels {
  MotionKernels<T>& motion;
  template <typename E>
  void run() const {
    // Every Edit moves phases, amplitudes or both; for_edit also instantiates an Extrapolation that moves neither.
    if constexpr (E::kMovesPhase || E::kMovesAmplitude)
      motion = {Layout<E>::kFields, largest_amplitude<E, T>, take_step<E, T>,
                step_size<E, T>,    real_frame<E, T>,        complex_frame<E, T>};
  }
};

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
