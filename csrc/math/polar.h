// Amplitude and phase of a coefficient, and its step along the negative gradient.
#pragma once

#include "common.h"
#include "trig.h"

namespace steerlens {

enum class Rule : int { kComplex = 0, kPolar = 1 };

// The bits of some floating-point numbers, as integers:
//   kMinNormal  the smallest normal number; it has the lowest bit of the exponent
//   kLargest    the largest power of two whose reciprocal is normal
//   kMask       infinity, which has all bits of the exponent
template <typename T>
struct Exponents;
template <>
struct Exponents<float> {
  using Unsigned = uint32_t;
  static constexpr int32_t kMinNormal = int32_t{1} << 23, kMask = 255 * kMinNormal,
                           kLargest = 253 * kMinNormal;
};
template <>
struct Exponents<double> {
  using Unsigned = uint64_t;
  static constexpr int64_t kMinNormal = int64_t{1} << 52, kMask = 2047 * kMinNormal,
                           kLargest = 2045 * kMinNormal;
};

// A complex number c, divided by a power of two so that |c|^2 neither underflows nor overflows. The power is the largest
// that does not exceed the larger of |re| and |im|, within kMinNormal and kLargest of Exponents. It is computed from the
// bits of re and im, which costs less than comparing floats.
template <typename T>
struct Scaled {
  Cplx<T> c;               // the number times `scale`
  T square;                // |c|^2 of this c
  T scale, inverse_scale;  // powers of two
};

template <typename T>
SL_FN Scaled<T> scaled(Cplx<T> c) {
  using E = Exponents<T>;
  const auto re = bits_of(c.re) & E::kMask, im = bits_of(c.im) & E::kMask;
  const auto larger = re > im ? re : im;
  const auto above = larger > E::kMinNormal ? larger : E::kMinNormal;
  const auto exponent = above < E::kLargest ? above : E::kLargest;
  const T inverse_scale = from_bits<T>(exponent);
  const T scale = from_bits<T>(E::kLargest + E::kMinNormal - exponent);
  const Cplx<T> s = {c.re * scale, c.im * scale};
  return {s, std::fma(s.re, s.re, s.im * s.im), scale, inverse_scale};
}

// sqrt(re^2 + im^2), without overflow.
template <typename T>
SL_FN T amplitude_of(Cplx<T> c) {
  const Scaled<T> s = scaled(c);
  return std::sqrt(s.square) * s.inverse_scale;
}

template <typename T>
struct Polar {
  T amplitude;
  T inverse, scale;   // their product is 1 / |c|, which would overflow for subnormal |c|
  Cplx<T> direction;  // c / |c|
};

// For c = 0, inverse and direction are 0, so that derivatives there are 0.
template <typename T>
SL_FN Polar<T> polar_of(Cplx<T> c) {
  const Scaled<T> s = scaled(c);
  const T root = std::sqrt(s.square);
  const T inverse = root == T(0) ? T(0) : T(1) / root;
  return {root * s.inverse_scale, inverse, s.scale, inverse * s.c};
}

// x clamped to the finite numbers. NaN becomes the largest or the lowest finite number, depending on its sign bit.
//
// Two minima of the bits cost less than comparisons of floats. The first, of signed integers, clamps positive numbers.
// The second, of unsigned integers, clamps negative numbers, whose sign bit makes them larger.
template <typename T>
SL_FN T saturated(T x) {
  using E = Exponents<T>;
  using Unsigned = typename E::Unsigned;
  constexpr auto kMaxFinite = E::kMask - 1;
  constexpr Unsigned kSign = ~(static_cast<Unsigned>(-1) >> 1), kMinFinite = kSign | kMaxFinite;
  const auto bits = bits_of(x);
  const Unsigned below = static_cast<Unsigned>(bits < kMaxFinite ? bits : kMaxFinite);
  return from_bits<T>(below < kMinFinite ? below : kMinFinite);
}

// The gradient with respect to c, from those with respect to |c| and arg c. It is 0 for c = 0, and otherwise
// c / |c| * (grad_amplitude + i grad_phase / |c|).
//
// The quotient is saturated: if it were infinite, the product would be NaN where a part of c / |c| is 0. If grad_phase
// itself is infinite or NaN, both parts are NaN.
template <typename T>
SL_FN Cplx<T> polar_split_grad(Polar<T> c, T grad_amplitude, T grad_phase) {
  const T turn = saturated((grad_phase * c.inverse) * c.scale);
  return c.direction * Cplx<T>{grad_amplitude + T(0) * grad_phase, turn};
}

template <typename T>
SL_FN Cplx<T> polar_split_grad(Cplx<T> c, T grad_amplitude, T grad_phase) {
  return polar_split_grad(polar_of(c), grad_amplitude, grad_phase);
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

// The gradients with respect to A and phi, from that with respect to A exp(i phi).
template <typename T>
SL_FN PolarPair<T> polar_join_grad(Cplx<T> grad, T amplitude, T phase) {
  const SinCos<T> t = sincos_of(phase);
  const Cplx<T> w = grad * Cplx<T>{t.cos, -t.sin};
  return {w.re, amplitude * w.im};
}

// The step of a coefficient c for the gradient G (complex or real), by the rule
//   kComplex  with c' = c - eps G: phase step arg(c' conj c), amplitude step |c'| - |c|;
//   kPolar    phase step -eps Im(G conj c), step of the logarithm of the amplitude -eps Re(G conj c).
// Writes |c| to `amplitude`.
template <typename T, typename G>
SL_FN PolarPair<T> step_value(Cplx<T> c, G gradient, T eps, Rule rule, T& amplitude) {
  const Scaled<T> s = scaled(c);
  amplitude = std::sqrt(s.square) * s.inverse_scale;
  if (rule == Rule::kPolar) {
    const Cplx<T> w = (-eps) * (gradient * conj(c));
    const T zero = s.square - s.square;  // NaN if either part of c is infinite or NaN
    return {w.re + zero, w.im + zero};
  }
  // `turned` has the angle of c' conj(c) = |c|^2 - eps G conj(c), in which small phase steps are accurate: c - eps G
  // would lose digits. It is multiplied by the scale of c and by 1/8, so that the sum does not overflow.
  const Cplx<T> scaled_step = ((T(-0.125) * eps) * gradient) * conj(s.c);
  // Adding 0 makes an imaginary part of -0 positive, so that an angle of half a turn is always +pi.
  const Cplx<T> turned = {std::fma(T(0.125) * s.square, s.inverse_scale, scaled_step.re),
                          scaled_step.im + T(0)};
  const Cplx<T> moved = c - eps * gradient;
  return {amplitude_of(moved) - amplitude, angle_of(turned.im, turned.re)};
}

// The larger of two numbers; `largest` if `a` is NaN.
template <typename T>
SL_FN T larger(T a, T largest) {
  return a > largest ? a : largest;
}

// Coefficients below this amplitude do not move.
template <typename T>
SL_FN T step_threshold(T floor, T largest) {
  return floor * largest;
}

template <typename T>
SL_FN bool moves(T amplitude, T threshold) {
  return !(amplitude < threshold) && !(amplitude == T(0));  // true for NaN, so that NaN propagates
}

// step_value if the coefficient moves, else 0.
template <typename T, typename G>
SL_FN PolarPair<T> step_above(Cplx<T> c, G gradient, T eps, Rule rule, T threshold) {
  T amplitude;
  const PolarPair<T> s = step_value(c, gradient, eps, rule, amplitude);
  const bool moving = moves(amplitude, threshold);
  return {moving ? s.amplitude : T(0), moving ? s.phase : T(0)};
}

template <typename T>
struct StepGrad {
  Cplx<T> c, gradient;
};

// The gradients of step_above with respect to c and G; the threshold counts as a constant. They are 0 for a coefficient
// that does not move, even if G, grad_phase or grad_amplitude is NaN.
template <typename T, typename G>
SL_FN StepGrad<T> step_above_grad(Cplx<T> c, G gradient, T eps, Rule rule, T threshold,
                                  T grad_phase, T grad_amplitude) {
  const Polar<T> at = polar_of(c);
  const bool moving = moves(at.amplitude, threshold);
  const Cplx<T> zero = {T(0), T(0)};
  if (rule == Rule::kPolar) {
    const Cplx<T> g = {-eps * grad_amplitude, -eps * grad_phase};
    const Cplx<T> grad_c = gradient * conj(g), grad_gradient = g * c;
    return {selected(moving, grad_c, zero), selected(moving, grad_gradient, zero)};
  }
  const Cplx<T> moved = c - eps * gradient;
  const Cplx<T> through_moved = polar_split_grad(moved, grad_amplitude, grad_phase);
  const Cplx<T> through_c = polar_split_grad(at, -grad_amplitude, -grad_phase);
  return {selected(moving, through_moved + through_c, zero),
          selected(moving, (-eps) * through_moved, zero)};
}

}  // namespace steerlens
