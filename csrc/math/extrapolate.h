// One coefficient of one frame, and its derivative.
#pragma once

#include "common.h"
#include "polar.h"
#include "trig.h"

namespace steerlens {

// The values that are computed once per coefficient and used for every frame.
template <typename T>
struct Coefficient {
  Cplx<T> c;  // the coefficient
  // What gain and rotation multiply: c or, if kNeedsAmplitude, c / |c| (1 where c = 0).
  Cplx<T> base;
  T amplitude;  // |c| if kNeedsAmplitude, else 1
  T phase_step;
  T amplitude_step;
};

// Template arguments say at compile time what moves: phase, amplitude, both or neither.
template <bool kPhase, bool kAmplitude, Rule kRule>
struct Extrapolation {
  static constexpr bool kMovesPhase = kPhase, kMovesAmplitude = kAmplitude;
  // Only the complex rule, where amplitudes add, needs |c| itself.
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

  // The frame's amplitude divided by |base|: max(A + a dA, 0) or, with the polar rule, exp(a dlogA).
  template <typename T>
  SL_FN static Gain<T> gain(const Coefficient<T>& p, T amplitude_factor) {
    if constexpr (!kAmplitude) return {T(1), T(1)};
    if constexpr (kRule == Rule::kPolar) return exp_of(amplitude_factor * p.amplitude_step);
    const T moved = p.amplitude + amplitude_factor * p.amplitude_step;
    // NaN if an operand is not finite; finite operands whose product overflows to -inf give 0.
    const T zero = p.amplitude_step * (amplitude_factor - amplitude_factor);
    return {moved < T(0) ? zero : moved, T(1)};
  }

  // |d value / d f|^2 at f = 0, where f is both the phase and the amplitude factor.
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
    Cplx<T> c = {T(0), T(0)};  // through the product with c (no amplitude step, or the polar rule)
    T amplitude = T(0);        // through |c|   (complex rule with an amplitude step)
    T phase = T(0);            // through arg c (likewise)
    T phase_step = T(0);
    T amplitude_step = T(0);
  };

  // `frame_grad` is complex, or real if the frames are real.
  template <typename T, typename FrameGrad>
  SL_FN static void add_frame(Grad<T>& sum, const Coefficient<T>& p, FrameGrad frame_grad,
                              T phase_factor, T amplitude_factor) {
    const Cplx<T> grad =
        frame_grad * conj(rotation(p, phase_factor));  // without the frame's rotation
    const Gain<T> g = gain(p, amplitude_factor);
    const Cplx<T> polar_grad =
        grad * conj(p.base);  // re: d/d gain; im: d/d phase, divided by the gain
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

  template <typename T>
  SL_FN static Cplx<T> finish(const Grad<T>& sum, const Coefficient<T>& p) {
    if constexpr (kNeedsAmplitude) return polar_split_grad(p.c, sum.amplitude, sum.phase);
    return sum.c;
  }
};

}  // namespace steerlens
