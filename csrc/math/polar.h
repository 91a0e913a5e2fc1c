// Amplitude and phase of a coefficient, and the step (design: "The step and the frames").
#pragma once

#include "common.h"
#include "trig.h"

namespace steerlens {

enum class Rule : int { kComplex = 0, kPolar = 1 };

// sqrt(re^2 + im^2) without underflow or overflow: both are scaled by a power of two first.
SL_FN float amplitude_of(Cplx<float> c) {
  const float re = fabsf(c.re), im = fabsf(c.im), big = re > im ? re : im;
  const float down = big > 1e15f ? 8.27180613e-25f : 1.0f;   // 2^-80
  const float scale = big < 1e-15f ? 1.26765060e30f : down;  // 2^100
  const float up = big > 1e15f ? 1.20892582e24f : 1.0f;      // 2^80
  const float back = big < 1e-15f ? 7.88860905e-31f : up;    // 2^-100
  const float x = re * scale, y = im * scale;
  return sqrtf(fmaf(x, x, y * y)) * back;
}
SL_FN double amplitude_of(Cplx<double> c) { return hypot(c.re, c.im); }

// c / |c|, and 1 (phase 0) at the origin. Divisions, since 1 / |c| may be out of range.
template <typename T>
SL_FN Cplx<T> direction_of(Cplx<T> c, T amplitude) {
  const bool zero = amplitude == T(0);
  const T divisor = zero ? T(1) : amplitude;
  return {zero ? T(1) : c.re / divisor, c.im / divisor};
}

// 1 / a, and 0 at 0: every derivative through the origin is defined as 0.
template <typename T>
SL_FN T inverse_or_zero(T a) {
  const bool zero = a == T(0);
  return zero ? T(0) : T(1) / (zero ? T(1) : a);
}

// Gradient of (|c|, arg c), pulled back to c: u * (g_amplitude + i g_phase / |c|), 0 at the origin.
template <typename T>
SL_FN Cplx<T> polar_split_grad(Cplx<T> c, T grad_amplitude, T grad_phase) {
  const T amplitude = amplitude_of(c), divisor = amplitude == T(0) ? T(1) : amplitude;
  const Cplx<T> u = {c.re / divisor, c.im / divisor};  // 0 at the origin
  return u * Cplx<T>{grad_amplitude, grad_phase * inverse_or_zero(amplitude)};
}

template <typename T>
SL_FN Cplx<T> polar_join_value(T amplitude, T phase) {
  const SinCos<T> t = sincos_of(phase);
  return {amplitude * t.cos, amplitude * t.sin};
}

template <typename T>
struct PolarPair {
  T amplitude, phase;
};

// Gradient of A exp(i phi), pulled back to (A, phi).
template <typename T>
SL_FN PolarPair<T> polar_join_grad(Cplx<T> grad, T amplitude, T phase) {
  const SinCos<T> t = sincos_of(phase);
  const Cplx<T> w = grad * Cplx<T>{t.cos, -t.sin};
  return {w.re, amplitude * w.im};
}

// One coefficient's step along -gradient. kComplex: c' = c - eps G, phase = arg(c' conj c),
// amplitude = |c'| - |c|. kPolar: phase = -eps Im(G conj c), amplitude (its logarithm's) =
// -eps Re(G conj c).
template <typename T>
SL_FN PolarPair<T> step_value(Cplx<T> c, Cplx<T> gradient, T eps, Rule rule) {
  const T a = amplitude_of(c);
  const Cplx<T> w = (-eps) * (gradient * conj(direction_of(c, a)));  // the step, along c
  if (rule == Rule::kPolar) return {a * w.re, a * w.im};
  const Cplx<T> moved = {a + w.re, w.im};  // c' conj(c) / |c|
  return {amplitude_of(moved) - a, angle_of(moved.im, moved.re)};
}

// The larger of a plane's amplitudes; NaN is passed over.
template <typename T>
SL_FN T larger_amplitude(T a, T largest) {
  return a > largest ? a : largest;
}

// Coefficients below this amplitude do not move.
template <typename T>
SL_FN T step_threshold(T floor, T largest) {
  return floor * largest;
}

template <typename T>
SL_FN bool moves(Cplx<T> c, T threshold) {
  const T a = amplitude_of(c);
  return !(a < threshold) && !(a == T(0));  // NaN moves, so that it shows
}

// step_value where a coefficient moves, else 0.
template <typename T>
SL_FN PolarPair<T> step_above(Cplx<T> c, Cplx<T> gradient, T eps, Rule rule, T threshold) {
  const PolarPair<T> s = step_value(c, gradient, eps, rule);
  const bool moving = moves(c, threshold);
  return {moving ? s.amplitude : T(0), moving ? s.phase : T(0)};
}

template <typename T>
struct StepGrad {
  Cplx<T> c, gradient;
};

// Gradient of step_value, pulled back to c and G.
template <typename T>
SL_FN StepGrad<T> step_grad(Cplx<T> c, Cplx<T> gradient, T eps, Rule rule, T grad_phase,
                            T grad_amplitude) {
  if (rule == Rule::kPolar) {
    const Cplx<T> g = {-eps * grad_amplitude, -eps * grad_phase};
    return {conj(g) * gradient, g * c};
  }
  const Cplx<T> moved = {c.re - eps * gradient.re, c.im - eps * gradient.im};
  const Cplx<T> through_moved = polar_split_grad(moved, grad_amplitude, grad_phase);
  const Cplx<T> through_c = polar_split_grad(c, -grad_amplitude, -grad_phase);
  return {through_moved + through_c, (-eps) * through_moved};
}

// Gradient of step_above; the threshold is a constant to it.
template <typename T>
SL_FN StepGrad<T> step_above_grad(Cplx<T> c, Cplx<T> gradient, T eps, Rule rule, T threshold,
                                  T grad_phase, T grad_amplitude) {
  const T open = moves(c, threshold) ? T(1) : T(0);
  return step_grad(c, gradient, eps, rule, open * grad_phase, open * grad_amplitude);
}

}  // namespace steerlens
