// Parts of the complex FFTs on CUDA: the plan of a length, roots of unity, and small DFTs.
#pragma once

#include "trig.h"

namespace steerlens {

constexpr int kMaxFftPasses = 6;  // enough for lengths up to 512

// The radices of the passes of the Stockham algorithm (decimation in time), whose outputs are in order.
//
// A pass of radix R combines transforms of `span` points into transforms of span * R points; span is the product of
// the radices of earlier passes. It has n / R groups of R points. With j = group % span and k = 0 ... R - 1, a
// group has
//
// - the inputs x[group + k n / R] exp(-2 pi i j k / (span R)),
// - the outputs y[(group - j) R + j + k span].
//
// Odd radices come first, so that neighbouring groups of the first pass write at an odd distance. This avoids conflicts
// between the banks of a GPU's shared memory.
struct FftPlan {
  int size = 1, passes = 0;
  unsigned char radix[kMaxFftPasses] = {};
};

// `size` must have a plan of at most kMaxFftPasses passes.
inline FftPlan make_fft_plan(int size) {
  FftPlan plan;
  plan.size = size;
  const auto divide = [&](int radix) {
    for (; size % radix == 0; size /= radix)
      plan.radix[plan.passes++] = static_cast<unsigned char>(radix);
  };
  for (int radix = 3; radix <= size; radix += 2) divide(radix);
  for (int radix : {8, 4, 2}) divide(radix);
  return plan;
}

// exp(-2 pi i k / n) for 0 <= k < n < 2^22.
SL_FN Cplx<float> root_of_unity(int k, int n) {
  const int quarters = (4 * k + n / 2) / n;
  const float remainder =
      static_cast<float>(4 * k - quarters * n) * (1.57079633f / static_cast<float>(n));
  const QuarterTurns<float, int32_t> turns{quarters, remainder};
  const SinCos<float> t = sincos_of_turns(turns, 0.0f);
  return {t.cos, -t.sin};
}

// The factors exp(-2 pi i j k / (span R)) of all passes are stored in one array of n - 1 numbers. Those of a pass begin
// at factor_offset(span). They are [R - 1, span]: rows are k = 1 ... R - 1, columns are j.
SL_FN int factor_offset(int span) { return span - 1; }

// The factor at index `at` of this array.
SL_FN Cplx<float> pass_factor(const FftPlan& plan, int at) {
  int span = 1, pass = 0;
  while (at >= factor_offset(span * plan.radix[pass])) span *= plan.radix[pass++];
  const int within = at - factor_offset(span), j = within % span, k = within / span + 1;
  return root_of_unity(j * k, span * plan.radix[pass]);
}

SL_FN Cplx<float> swap_parts(Cplx<float> a) { return {a.im, a.re}; }
SL_FN Cplx<float> times_minus_i(Cplx<float> a) { return {a.im, -a.re}; }

// cos and sin of 2 pi k / R for k = 1 ... (R - 1) / 2, for an odd R.
template <int R>
struct OddRoots;
template <>
struct OddRoots<3> {
  float cos[1] = {-0.5f}, sin[1] = {0.86602540f};
};
template <>
struct OddRoots<5> {
  float cos[2] = {0.30901699f, -0.80901699f}, sin[2] = {0.95105652f, 0.58778525f};
};
template <>
struct OddRoots<7> {
  float cos[3] = {0.62348980f, -0.22252093f, -0.90096887f};
  float sin[3] = {0.78183148f, 0.97492791f, 0.43388374f};
};

// Replaces a_k by sum_j a_j exp(-2 pi i j k / R). R is 2, 4, 8, or odd with OddRoots<R>.
template <int R>
SL_FN void dft(Cplx<float> (&a)[R]) {
  if constexpr (R == 2) {
    const Cplx<float> t = a[1];
    a[1] = a[0] - t;
    a[0] = a[0] + t;
  } else if constexpr (R == 4) {
    const Cplx<float> even_sum = a[0] + a[2], even_diff = a[0] - a[2];
    const Cplx<float> odd_sum = a[1] + a[3], odd_diff = times_minus_i(a[1] - a[3]);
    a[0] = even_sum + odd_sum;
    a[1] = even_diff + odd_diff;
    a[2] = even_sum - odd_sum;
    a[3] = even_diff - odd_diff;
  } else if constexpr (R == 8) {
    Cplx<float> e[4] = {a[0], a[2], a[4], a[6]}, o[4] = {a[1], a[3], a[5], a[7]};
    dft(e);
    dft(o);
    constexpr float kSqrtHalf = 0.70710678f;
    o[1] = {kSqrtHalf * (o[1].re + o[1].im), kSqrtHalf * (o[1].im - o[1].re)};
    o[2] = times_minus_i(o[2]);
    o[3] = {kSqrtHalf * (o[3].im - o[3].re), -kSqrtHalf * (o[3].re + o[3].im)};
    SL_UNROLL
    for (int k = 0; k < 4; ++k) {
      a[k] = e[k] + o[k];
      a[k + 4] = e[k] - o[k];
    }
  } else {  // a_j and a_(R-j) are multiplied by the same cosines and, up to the sign, sines
    constexpr int kHalf = R / 2;
    const OddRoots<R> roots;
    Cplx<float> sum[kHalf], difference[kHalf];
    const Cplx<float> first = a[0];
    SL_UNROLL
    for (int j = 0; j < kHalf; ++j) {
      sum[j] = a[j + 1] + a[R - 1 - j];
      difference[j] = a[j + 1] - a[R - 1 - j];
      a[0] = a[0] + sum[j];
    }
    SL_UNROLL
    for (int k = 1; k <= kHalf; ++k) {
      Cplx<float> cos = first, sin = {0.0f, 0.0f};
      SL_UNROLL
      for (int j = 0; j < kHalf; ++j) {
        const int turn = (j + 1) * k % R;
        const bool past_half = turn > kHalf;
        const int at = (past_half ? R - turn : turn) - 1;
        const float c = roots.cos[at], s = past_half ? -roots.sin[at] : roots.sin[at];
        cos = cos + c * sum[j];
        sin = sin + s * difference[j];
      }
      a[k] = {cos.re + sin.im, cos.im - sin.re};
      a[R - k] = {cos.re - sin.im, cos.im + sin.re};
    }
  }
}

}  // namespace steerlens
