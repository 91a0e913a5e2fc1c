// The value of one coefficient in one frame, and its derivatives.
//
// In a frame, the phase of a coefficient is increased by (phase factor of the frame) * (phase step of the coefficient).
// With the complex rule, its amplitude is increased likewise, but is at least 0. With the polar rule, its amplitude is
// multiplied by exp(factor * step).
#pragma once

#include "common.h"
#include "polar.h"
#include "trig.h"

namespace steerlens {

// Values of a coefficient that are computed once and used for all frames.
template <typename T>
struct Coefficient {
  Cplx<T> c;     // the coefficient
  Cplx<T> base;  // c or, if kNeedsAmplitude, its direction c / |c| (1 where c = 0)
  T amplitude;   // |c| if kNeedsAmplitude, else 1
  T phase_step;
  T amplitude_step;
};

// Computes the value in a frame: gain * base * rotation. The template arguments say what moves.
template <bool kPhase, bool kAmplitude, Rule kRule>
struct Extrapolation {
  static constexpr bool kMovesPhase = kPhase, kMovesAmplitude = kAmplitude;
  static constexpr Rule kAmplitudeRule = kRule;  // only meaningful if amplitudes move
  // Only the complex rule, which adds to the amplitude, needs |c|.
  static constexpr bool kNeedsAmplitude = kAmplitude && kRule == Rule::kComplex;

  template <typename T>
  SL_FN static Coefficient<T> load(Cplx<T> c, T phase_step, T amplitude_step) {
    Coefficient<T> p = {c, c, T(1), phase_step, amplitude_step};
    if constexpr (kNeedsAmplitude) {
      const Polar<T> polar = polar_of(c);
      p.amplitude = polar.amplitude;
      p.base = {p.amplitude == T(0) ? T(1) : polar.direction.re, polar.direction.im};
    }
    return p;
  }

  template <typename T>
  SL_FN static Cplx<T> rotation(const Coefficient<T>& p, T phase_factor) {
    if constexpr (!kPhase) return {T(1), T(0)};
    const SinCos<T> t = sincos_product(phase_factor, p.phase_step);
    return {t.cos, t.sin};
  }

  // The amplitude in the frame, divided by |base|: max(amplitude + factor * step, 0) with the complex rule,
  // exp(factor * step) with the polar one.
  template <typename T>
  SL_FN static Gain<T> gain(const Coefficient<T>& p, T amplitude_factor) {
    if constexpr (!kAmplitude) return {T(1), T(1)};
    if constexpr (kRule == Rule::kPolar) return exp_of(amplitude_factor * p.amplitude_step);
    const T moved = p.amplitude + amplitude_factor * p.amplitude_step;
    // 0, or NaN if the factor or the step is not finite.
    const T zero = p.amplitude_step * (amplitude_factor - amplitude_factor);
    return {moved < T(0) ? zero : moved, T(1)};
  }

  // |d value / d factor|^2 at factor 0.
  template <typename T>
  SL_FN static T squared_speed(const Coefficient<T>& p) {
    const T square =
        kNeedsAmplitude ? p.amplitude * p.amplitude : p.base.re * p.base.re + p.base.im * p.base.im;
    T speed = T(0);
    if constexpr (kPhase) speed = square * (p.phase_step * p.phase_step);
    if constexpr (kAmplitude)
      speed += (kNeedsAmplitude ? T(1) : square) * (p.amplitude_step * p.amplitude_step);
    return speed;
  }

  template <typename T>
  SL_FN static Cplx<T> value(const Coefficient<T>& p, T phase_factor, T amplitude_factor) {
    return gain(p, amplitude_factor) * (p.base * rotation(p, phase_factor));
  }

  // Re(value), without computing the imaginary part.
  template <typename T>
  SL_FN static T real(const Coefficient<T>& p, T phase_factor, T amplitude_factor) {
    const Cplx<T> turn = rotation(p, phase_factor);
    return gain(p, amplitude_factor) * (p.base.re * turn.re - p.base.im * turn.im);
  }

  // Sums over frames of the gradient with respect to the coefficient and its steps.
  template <typename T>
  struct Grad {
    Cplx<T> c = {T(0), T(0)};  // with respect to c, unless kNeedsAmplitude
    T amplitude = T(0);        // with respect to |c|, if kNeedsAmplitude
    T phase = T(0);            // with respect to arg c, if kNeedsAmplitude
    T phase_step = T(0);
    T amplitude_step = T(0);
  };

  // Adds the gradient of one frame. `frame_grad` is complex, or real if the frames are real.
  template <typename T, typename FrameGrad>
  SL_FN static void add_frame(Grad<T>& sum, const Coefficient<T>& p, FrameGrad frame_grad,
                              T phase_factor, T amplitude_factor) {
    const Cplx<T> grad =
        frame_grad * conj(rotation(p, phase_factor));  // with respect to gain * base
    const Gain<T> g = gain(p, amplitude_factor);
    // Real part: the gradient with respect to the gain. Imaginary part, times the gain: that with respect to the phase.
    const Cplx<T> polar_grad = grad * conj(p.base);
    if constexpr (kPhase) sum.phase_step = sum.phase_step + phase_factor * (g * polar_grad.im);
    if constexpr (kNeedsAmplitude) {
      const T amplitude_grad =  // 0 where the amplitude is clamped
          p.amplitude + amplitude_factor * p.amplitude_step > T(0) ? polar_grad.re : T(0);
      sum.amplitude = sum.amplitude + amplitude_grad;
      sum.phase = sum.phase + g * polar_grad.im;
      sum.amplitude_step = sum.amplitude_step + amplitude_factor * amplitude_grad;
    } else {
      sum.c = sum.c + g * grad;
      if constexpr (kAmplitude)
        sum.amplitude_step = sum.amplitude_step + amplitude_factor * (g * polar_grad.re);
    }
  }

  // The gradient with respect to c.
  template <typename T>
  SL_FN static Cplx<T> finish(const Grad<T>& sum, const Coefficient<T>& p) {
    if constexpr (kNeedsAmplitude) return polar_split_grad(p.c, sum.amplitude, sum.phase);
    return sum.c;
  }
};

}  // namespace steerlens
