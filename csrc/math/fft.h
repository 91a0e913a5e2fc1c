// Parts of the complex FFTs on CUDA: the plan of a length, and roots of unity.
#pragma once

#include <initializer_list>

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

// The factors exp(-2 pi i j k / (span R)) of all passes are stored in one array of n - 1 numbers. The factors of a pass
// begin at factor_offset(span), since earlier passes have span - 1 factors. A pass has the factors [R - 1, span]: rows
// are k = 1 ... R - 1, columns are j.
SL_FN int factor_offset(int span) { return span - 1; }

// The factor at index `at` of this array.
SL_FN Cplx<float> pass_factor(const FftPlan& plan, int at) {
  int span = 1, pass = 0;
  while (at >= factor_offset(span * plan.radix[pass])) span *= plan.radix[pass++];
  const int of_pass = at - factor_offset(span), j = of_pass % span, k = of_pass / span + 1;
  return root_of_unity(j * k, span * plan.radix[pass]);
}

}  // namespace steerlens
