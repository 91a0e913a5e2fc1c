// nll_gradient on the CPU, in double precision and sample by sample. With torch, it would be about twenty ops. For a
// small batch, calling twenty ops takes longer than the arithmetic.
#include "../prepare/nll_gradient.h"
#include "../math/nll.h"
#include "parallel.h"

namespace steerlens {
namespace {

template <typename T>
void compute(NllGradient& p) {
  const int64_t classes = p.scores.size(1);
  const T* scores = const_data<T>(p.scores);
  const int64_t* target = const_data<int64_t>(p.target);
  T* gradient = mutable_data<T>(p.gradient);
  // A class counts as 16 elements, since exp is slow.
  parallel_rows(p.scores.size(0), 16 * classes, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n)
      nll_gradient(scores + n * classes, classes, target[n], gradient + n * classes);
  });
}

Tensor nll_gradient_of_scores(Tensor scores, Tensor target) {
  auto p = prepare_nll_gradient(scores, target);
  const int64_t count = p.scores.size(0), classes = p.scores.size(1);
  const int64_t* targets = const_data<int64_t>(p.target);
  for (int64_t n = 0; n < count; ++n)
    if (targets[n] < 0 || targets[n] >= classes)
      fail("nll_gradient", "target must be from 0 to ", classes - 1, ", got ", targets[n]);
  if (is_double(p.scores.scalar_type()))
    compute<double>(p);
  else
    compute<float>(p);
  return p.gradient;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CPU, m) {
  m.impl("nll_gradient", TORCH_BOX(&nll_gradient_of_scores));
}

}  // namespace steerlens
