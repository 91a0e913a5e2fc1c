// A coefficient of a persistent morph, in which steps add up. Its value is c0 exp(eta + i delta): c0 is the coefficient
// of the source, delta the total change of its phase, and eta that of its log amplitude. |delta| <= pi and |eta| <= 1.
#pragma once

#include <limits>

#include "extrapolate.h"

namespace steerlens {

// Values that are computed once for each coefficient and step.
template <typename T>
struct AnchoredCoefficient {
  Cplx<T> source;  // c0
  T phase;         // delta
  T amplitude;  // eta with the polar rule; exp(eta) with the complex rule, which adds to amplitudes
  T phase_step, amplitude_step;
};

// log(x) for x from 1/e to e, by the series of log(x) = 2 artanh(s). The error of kTerms terms is below 3e-9 (float) or
// the rounding error (double).
template <typename T>
SL_FN T log_near_1(T x) {
  constexpr int kTerms = sizeof(T) == 4 ? 11 : 25;
  const T s = (x - T(1)) / (x + T(1)), square = s * s;
  T sum = T(0);
  for (int i = kTerms - 1; i >= 0; --i) sum = std::fma(sum, square, T(1) / T(2 * i + 1));
  return T(2) * s * sum;
}

// Moves the phase, the amplitude or both, as the Extrapolation E does.
template <typename E>
struct AnchoredMove {
  static constexpr bool kMovesPhase = E::kMovesPhase, kMovesAmplitude = E::kMovesAmplitude;
  // With the complex rule, the amplitude is stored as the ratio to the source's amplitude.
  static constexpr bool kRelativeAmplitude = E::kNeedsAmplitude;
  static constexpr Rule kAmplitudeRule = E::kAmplitudeRule;

  // Returns delta after a step.
  template <typename T>
  SL_FN static T moved_phase(const AnchoredCoefficient<T>& p, T factor) {
    constexpr T kLimit = T(3.141592653589793);
    return clamped(std::fma(factor, p.phase_step, p.phase), -kLimit, kLimit);
  }

  // Returns `amplitude` after a step. With the complex rule, an amplitude without a step is not clamped: clamping could
  // change it, since the limits, e and 1/e, are rounded.
  template <typename T>
  SL_FN static T moved_amplitude(const AnchoredCoefficient<T>& p, T factor) {
    const T moved = std::fma(factor, p.amplitude_step, p.amplitude);
    if constexpr (!kRelativeAmplitude) return clamped(moved, T(-1), T(1));
    constexpr T kLargest = T(2.718281828459045), kSmallest = T(0.36787944117144233);
    return p.amplitude_step == T(0) ? p.amplitude : clamped(moved, kSmallest, kLargest);
  }

  template <typename T>
  SL_FN static Gain<T> gain(const AnchoredCoefficient<T>& p, T factor) {
    if constexpr (!kMovesAmplitude) return {T(1), T(1)};
    const T moved = moved_amplitude(p, factor);
    if constexpr (kRelativeAmplitude) return {moved, T(1)};
    return exp_of(moved);
  }

  template <typename T>
  SL_FN static Cplx<T> rotation(const AnchoredCoefficient<T>& p, T factor) {
    if constexpr (!kMovesPhase) return {T(1), T(0)};
    const SinCos<T> t = sincos_of(moved_phase(p, factor));
    return {t.cos, t.sin};
  }

  template <typename T>
  SL_FN static Cplx<T> value(const AnchoredCoefficient<T>& p, T phase_factor, T amplitude_factor) {
    return gain(p, amplitude_factor) * (p.source * rotation(p, phase_factor));
  }

  // Re(value), without computing the imaginary part.
  template <typename T>
  SL_FN static T real(const AnchoredCoefficient<T>& p, T phase_factor, T amplitude_factor) {
    const Cplx<T> turn = rotation(p, phase_factor);
    return gain(p, amplitude_factor) * (p.source.re * turn.re - p.source.im * turn.im);
  }

  // |d value / d factor|^2 at factor 0. `* T(1)` converts the result of exp_of to one number.
  template <typename T>
  SL_FN static T squared_speed(const AnchoredCoefficient<T>& p) {
    const T square = p.source.re * p.source.re + p.source.im * p.source.im;
    T ratio = T(1), sum = T(0);
    if constexpr (kRelativeAmplitude) ratio = p.amplitude;
    if constexpr (kMovesAmplitude && !kRelativeAmplitude) ratio = exp_of(p.amplitude) * T(1);
    const T value_square = square * (ratio * ratio);
    if constexpr (kMovesPhase) sum = value_square * (p.phase_step * p.phase_step);
    if constexpr (kMovesAmplitude)
      sum += (kRelativeAmplitude ? square : value_square) * (p.amplitude_step * p.amplitude_step);
    return sum;
  }

  // Returns the value of `amplitude` for eta = `log_amplitude`.
  template <typename T>
  SL_FN static T amplitude_at(T log_amplitude) {
    if constexpr (!kRelativeAmplitude) return log_amplitude;
    return exp_of(log_amplitude) * T(1);
  }

  // Returns eta after a step from eta = `log_amplitude`.
  template <typename T>
  SL_FN static T moved_log_amplitude(const AnchoredCoefficient<T>& p, T log_amplitude, T factor) {
    const T moved = moved_amplitude(p, factor);
    if constexpr (!kRelativeAmplitude) return moved;
    return p.amplitude_step == T(0) ? log_amplitude : clamped(log_near_1(moved), T(-1), T(1));
  }

  // Sets p.phase_step and p.amplitude_step. `step` is what the op step gives at the present value of the coefficient.
  template <typename T>
  SL_FN static void set_steps(AnchoredCoefficient<T>& p, PolarPair<T> step) {
    p.phase_step = step.phase;
    p.amplitude_step = step.amplitude;
    if constexpr (kRelativeAmplitude) {
      // Clamped, since a factor of 0 times an infinite step would be NaN.
      constexpr T kMax = std::numeric_limits<T>::max();
      const T relative = clamped(step.amplitude / amplitude_of(p.source), -kMax, kMax);
      p.amplitude_step = step.amplitude == T(0) ? T(0) : relative;
    }
  }
};

}  // namespace steerlens
