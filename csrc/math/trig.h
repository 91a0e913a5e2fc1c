// Elementary functions without branches, so that compilers vectorise them. In float64, libm is called instead on CUDA,
// and on CPUs without FMA.
//
// The float32 polynomials are minimax fits (by Lawson's iterated weighted least squares) for sin and cos on |r| <=
// pi/4, atan on 0 <= q <= 1, and exp on |r| <= ln(2)/2. The error of each fit is below 1.5e-8.
#pragma once

#include "common.h"

// Without FMA instructions, fma() is a slow function of libm, so libm's sin, cos and exp are faster than ours. On CUDA,
// libm's need fewer registers; with ours, kernels would spill.
#if defined(__CUDACC__) || (!defined(__FMA__) && !defined(__ARM_FEATURE_FMA))
#define STEERLENS_LIBM_FLOAT64
#endif

namespace steerlens {

template <typename T>
struct SinCos {
  T sin, cos;
};

// Converts a float with an integer value to int; 0 for NaN and for magnitudes of 1e9 or more.
SL_FN int to_int(float k) { return static_cast<int>(fabsf(k) < 1e9f ? k : 0.0f); }

// copysign(magnitude, sign) for a magnitude that is not negative.
SL_FN float with_sign(float magnitude, float sign) {
  return from_bits<float>(static_cast<uint32_t>(bits_of(magnitude)) |
                          (static_cast<uint32_t>(bits_of(sign)) & 0x80000000u));
}

// -x where bit 1 of `bits` is set, else x.
SL_FN float signed_by_bit_1(float x, int32_t bits) {
  const uint32_t sign = (static_cast<uint32_t>(bits) << 30) & 0x80000000u;
  return from_bits<float>(static_cast<uint32_t>(bits_of(x)) ^ sign);
}
SL_FN double signed_by_bit_1(double x, int64_t bits) {
  const uint64_t sign = (static_cast<uint64_t>(bits) << 62) & (uint64_t{1} << 63);
  return from_bits<double>(static_cast<uint64_t>(bits_of(x)) ^ sign);
}

// An angle as number * pi/2 + remainder. The remainder is meaningless far beyond 1e6 rad (float32) or 1e15 rad
// (float64).
template <typename T, typename Bits>
struct QuarterTurns {
  Bits number;  // only its low-order bits are valid
  T remainder;
};

SL_FN QuarterTurns<float, int32_t> in_quarter_turns(float x) {
  // Adding 1.5 * 2^23 rounds 2/pi x to an integer, which is then in the low-order bits.
  const float shifted = fmaf(x, 0.636619772f, 12582912.0f), k = shifted - 12582912.0f;
  // pi/2 is split into 1.5707964 - 4.3711388e-8, so that the inner difference is exact.
  return {bits_of(shifted), fmaf(k, 4.371138828673793e-08f, fmaf(k, -1.5707963705062866f, x))};
}

SL_FN QuarterTurns<double, int64_t> in_quarter_turns(double x) {
  constexpr double kShift = 6755399441055744.0;  // 1.5 * 2^52
  const double shifted = fma(x, 0.63661977236758138, kShift), k = shifted - kShift;
  return {bits_of(shifted), fma(k, -6.123233995736766e-17, fma(k, -1.5707963267948966, x))};
}

// sin and cos of r, by fits for |r| <= pi/4. Callers pass no |r| of 1 or more.
SL_FN SinCos<float> sincos_near_0(float r) {
  const float z = r * r;
  const float s = fmaf(
      r * z,
      fmaf(z, fmaf(z, -0.0001951463200384751f, 0.008332155644893646f), -0.16666655242443085f), r);
  const float c =
      fmaf(z * z,
           fmaf(z, fmaf(z, 2.4437729734927416e-05f, -0.001388736185617745f), 0.04166664555668831f),
           fmaf(z, -0.5f, 1.0f));
  return {s, c};
}

// The polynomials of FreeBSD's msun (fdlibm), for |r| <= pi/4.
SL_FN SinCos<double> sincos_near_0(double r) {
  const double z = r * r;
  double s = 1.58969099521155010221e-10;
  s = fma(s, z, -2.50507602534068634195e-08);
  s = fma(s, z, 2.75573137070700676789e-06);
  s = fma(s, z, -1.98412698298579493134e-04);
  s = fma(s, z, 8.33333333332248946124e-03);
  s = fma(s, z, -1.66666666666666324348e-01);
  double c = -1.13596475577881948265e-11;
  c = fma(c, z, 2.08757232129817482790e-09);
  c = fma(c, z, -2.75573143513906633035e-07);
  c = fma(c, z, 2.48015872894767294178e-05);
  c = fma(c, z, -1.38888888888741095749e-03);
  c = fma(c, z, 4.16666666666666019037e-02);
  const double half = 0.5 * z, one = 1.0 - half;
  return {fma(r * z, s, r), one + fma(z * z, c, (1.0 - one) - half)};
}

SL_FN float magnitude(float x) { return fabsf(x); }
SL_FN double magnitude(double x) { return fabs(x); }
SL_FN float fused(float a, float b, float c) { return fmaf(a, b, c); }
SL_FN double fused(double a, double b, double c) { return fma(a, b, c); }

// sin and cos of an angle. `fallback` (0 or NaN) replaces the remainder of an angle that is too large.
template <typename T, typename Bits>
SL_FN SinCos<T> sincos_of_turns(QuarterTurns<T, Bits> turns, T fallback) {
  // For a huge angle the result is meaningless, but sin^2 + cos^2 = 1 still holds.
  const bool valid = magnitude(turns.remainder) < T(1);
  const SinCos<T> near_0 = sincos_near_0(valid ? turns.remainder : fallback);
  const bool odd = turns.number & 1;
  return {signed_by_bit_1(odd ? near_0.cos : near_0.sin, turns.number),
          signed_by_bit_1(odd ? near_0.sin : near_0.cos, turns.number + 1)};
}

// sin and cos of factor * angle. The rounding error of the product is added to the remainder, so that the result is
// accurate to 3e-7 rad in float32, for products below 1e6 rad.
template <typename T>
SL_FN SinCos<T> sincos_product(T factor, T angle) {
  const T x = factor * angle;
  auto turns = in_quarter_turns(x);
  turns.remainder = turns.remainder + fused(factor, angle, -x);
  // The fallback is NaN if an operand is NaN or infinite, and 0 if only their product overflows.
  return sincos_of_turns(turns, angle * (factor - factor));
}

template <typename T>
SL_FN SinCos<T> sincos_of(T angle) {
  return sincos_of_turns(in_quarter_turns(angle), angle - angle);
}

#if defined(STEERLENS_LIBM_FLOAT64)
SL_FN SinCos<double> sincos_product(double factor, double angle) {
  const double product = factor * angle;
  const double x = magnitude(product) < HUGE_VAL ? product : angle * (factor - factor);
  return {sin(x), cos(x)};
}
SL_FN SinCos<double> sincos_of(double angle) { return sincos_product(1.0, angle); }
#endif

// The angle of x + iy in [-pi, pi], as atan2(y, x). At the origin, the angle is y (+0 or -0); atan2's could be +-pi.
SL_FN float angle_of(float y, float x) {
  const float ax = fabsf(x), ay = fabsf(y);
  const bool steep = ay > ax;
  const float big = steep ? ay : ax, small = steep ? ax : ay;
  // At the origin, the quotient is 0. For two infinities, it is 1, so that the angle is on a diagonal, as in libm.
  const float q = small == big ? (big == 0.0f ? 0.0f : 1.0f) : small / big;
  const float z = q * q;
  float p = 0.0026222378946840763f;
  p = fmaf(p, z, -0.015132510103285313f);
  p = fmaf(p, z, 0.041121818125247955f);
  p = fmaf(p, z, -0.0736670270562172f);
  p = fmaf(p, z, 0.1057393029332161f);
  p = fmaf(p, z, -0.1418597549200058f);
  p = fmaf(p, z, 0.1999039649963379f);
  p = fmaf(p, z, -0.33332985639572144f);
  float angle = fmaf(q * z, p, q);
  angle = steep ? 1.57079637f - angle : angle;
  angle = x < 0.0f ? 3.14159274f - angle : angle;
  return with_sign(angle, y);  // NaN in, NaN out
}

// 2^k for an integer k in [-126, 127].
SL_FN float power_of_two(int k) { return from_bits<float>((k + 127) << 23); }

// exp(x) as a product of two factors. Even if exp(x) overflows or underflows, (value * first) * second may be correct.
template <typename T>
struct Gain {
  T first, second;
};
template <typename T>
SL_FN T operator*(Gain<T> g, T x) {
  return g.second * (g.first * x);
}
template <typename T>
SL_FN Cplx<T> operator*(Gain<T> g, Cplx<T> c) {
  return {g * c.re, g * c.im};
}

SL_FN Gain<float> exp_of(float x) {
  // Clamped, so that both powers of two are normal numbers. exp(-174) and exp(176) are far outside the range of float.
  const float inside = clamped(x, -174.0f, 176.0f);
  const float k = rintf(inside * 1.44269502f);
  const float r = fmaf(k, 1.904654323148236e-09f, fmaf(k, -0.6931471824645996f, inside));
  float p = 0.0013814467238262296f;
  p = fmaf(p, r, 0.008368780836462975f);
  p = fmaf(p, r, 0.04166839271783829f);
  p = fmaf(p, r, 0.1666651964187622f);
  p = fmaf(p, r, 0.4999999403953552f);
  const int half = to_int(k) >> 1;
  return {power_of_two(half) * fmaf(r * r, p, 1.0f + r), power_of_two(to_int(k) - half)};
}

#if defined(STEERLENS_LIBM_FLOAT64)
SL_FN double angle_of(double y, double x) { return x == 0 && y == 0 ? y : atan2(y, x); }

SL_FN Gain<double> exp_of(double x) {
  const double inside = clamped(x, -700.0, 700.0);
  return {exp(inside), x == inside ? 1.0 : exp(clamped(x, -1400.0, 1400.0) - inside)};
}
#else
SL_FN double with_sign(double magnitude, double sign) {
  return from_bits<double>(static_cast<uint64_t>(bits_of(magnitude)) |
                           (static_cast<uint64_t>(bits_of(sign)) & (uint64_t{1} << 63)));
}

// The polynomial, from msun, is for quotients up to 7/16. A quotient tan(a) above tan(pi/8) is replaced by
// tan(a - pi/4), and pi/4 is added to the result.
SL_FN double angle_of(double y, double x) {
  const double ax = fabs(x), ay = fabs(y);
  const bool steep = ay > ax;
  const double big = steep ? ay : ax, small = steep ? ax : ay;
  const double quotient = small == big ? (big == 0.0 ? 0.0 : 1.0) : small / big;
  const bool large = quotient > 0.41421356237309503;  // tan(pi/8)
  const double q = large ? (quotient - 1.0) / (quotient + 1.0) : quotient, z = q * q;
  double p = 1.62858201153657823623e-02;
  p = fma(p, z, -3.65315727442169155270e-02);
  p = fma(p, z, 4.97687799461593236017e-02);
  p = fma(p, z, -5.83357013379057348645e-02);
  p = fma(p, z, 6.66107313738753120669e-02);
  p = fma(p, z, -7.69187620504482999495e-02);
  p = fma(p, z, 9.09088713343650656196e-02);
  p = fma(p, z, -1.11111104054623557880e-01);
  p = fma(p, z, 1.42857142725034663711e-01);
  p = fma(p, z, -1.99999999998764832476e-01);
  p = fma(p, z, 3.33333333333329318027e-01);
  double angle = fma(-q * z, p, q);
  angle = large ? 0.78539816339744831 + angle : angle;
  angle = steep ? 1.5707963267948966 - (angle - 6.123233995736766e-17) : angle;
  angle = x < 0.0 ? 3.1415926535897931 - (angle - 1.2246467991473532e-16) : angle;
  return with_sign(angle, y);
}

// 2^k for a k with an integer value in [-1022, 1023]. The addition leaves the exponent in the low-order bits.
SL_FN double power_of_two(double k) {
  constexpr double kBias = 1023.0, kShift = 6755399441055744.0;  // 1.5 * 2^52
  return from_bits<double>(static_cast<uint64_t>(bits_of(k + (kShift + kBias))) << 52);
}

SL_FN Gain<double> exp_of(double x) {
  const double inside =
      clamped(x, -1416.0, 1418.0);  // so that both powers of two are normal numbers
  const double k = rint(inside * 1.4426950408889634);
  const double r = fma(k, -2.3190468138462996e-17, fma(k, -0.69314718055994531, inside));
  double p = 2.510038549551032e-08;
  p = fma(p, r, 2.7620088445409746e-07);
  p = fma(p, r, 2.7557268459997064e-06);
  p = fma(p, r, 2.4801521295954376e-05);
  p = fma(p, r, 0.00019841269863053618);
  p = fma(p, r, 0.0013888888917213717);
  p = fma(p, r, 0.008333333333330062);
  p = fma(p, r, 0.04166666666662413);
  p = fma(p, r, 0.16666666666666669);
  p = fma(p, r, 0.5000000000000001);
  const double half = rint(0.5 * k);
  return {power_of_two(half) * fma(r * r, p, 1.0 + r), power_of_two(k - half)};
}
#endif

}  // namespace steerlens
