// polar_split, polar_join and their backwards on the CPU.
#include "../math/polar.h"

#include "../args/polar.h"
#include "clones.h"
#include "parallel.h"

namespace steerlens {
namespace {

template <typename T>
SL_FN void split_body(const PolarArgs<T>& args, int64_t begin, int64_t end) {
  const Cplx<T>* __restrict__ c = args.coefficients;
  T* __restrict__ amplitude = args.out_amplitude;
  T* __restrict__ phase = args.out_phase;
  for (int64_t i = begin; i < end; ++i) {
    amplitude[i] = amplitude_of(c[i]);
    phase[i] = angle_of(c[i].im, c[i].re);
  }
}
STEERLENS_CLONE_FOR_DTYPES(split, PolarArgs)

template <typename T>
SL_FN void split_backward_body(const PolarArgs<T>& args, int64_t begin, int64_t end) {
  const Cplx<T>* __restrict__ c = args.coefficients;
  Cplx<T>* __restrict__ out = args.out_coefficients;
  for (int64_t i = begin; i < end; ++i)
    out[i] = polar_split_grad(c[i], args.amplitude[i], args.phase[i]);
}
STEERLENS_CLONE_FOR_DTYPES(split_backward, PolarArgs)

template <typename T>
SL_FN void join_body(const PolarArgs<T>& args, int64_t begin, int64_t end) {
  Cplx<T>* __restrict__ out = args.out_coefficients;
  for (int64_t i = begin; i < end; ++i) out[i] = polar_join_value(args.amplitude[i], args.phase[i]);
}
STEERLENS_CLONE_FOR_DTYPES(join, PolarArgs)

template <typename T>
SL_FN void join_backward_body(const PolarArgs<T>& args, int64_t begin, int64_t end) {
  const Cplx<T>* __restrict__ grad = args.coefficients;
  T* __restrict__ grad_amplitude = args.out_amplitude;
  T* __restrict__ grad_phase = args.out_phase;
  for (int64_t i = begin; i < end; ++i) {
    const PolarPair<T> g = polar_join_grad(grad[i], args.amplitude[i], args.phase[i]);
    grad_amplitude[i] = g.amplitude;
    grad_phase[i] = g.phase;
  }
}
STEERLENS_CLONE_FOR_DTYPES(join_backward, PolarArgs)

// A runner that calls `loop` on ranges of [0, count) in parallel.
#define STEERLENS_RUN(loop)                                                                    \
  [](const auto& args, const Tensor&) {                                                        \
    parallel_rows(args.count, 1, [&](int64_t begin, int64_t end) { loop(args, begin, end); }); \
  }

std::tuple<Tensor, Tensor> polar_split(Tensor coefficients) {
  return polar_split_with(coefficients, STEERLENS_RUN(split));
}

Tensor polar_split_backward(Tensor coefficients, Tensor grad_amplitude, Tensor grad_phase) {
  return polar_split_backward_with(coefficients, grad_amplitude, grad_phase,
                                   STEERLENS_RUN(split_backward));
}

Tensor polar_join(Tensor amplitude, Tensor phase) {
  return polar_join_with(amplitude, phase, STEERLENS_RUN(join));
}

std::tuple<Tensor, Tensor> polar_join_backward(Tensor grad, Tensor amplitude, Tensor phase) {
  return polar_join_backward_with(grad, amplitude, phase, STEERLENS_RUN(join_backward));
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CPU, m) {
  m.impl("polar_split", TORCH_BOX(&polar_split));
  m.impl("polar_split_backward", TORCH_BOX(&polar_split_backward));
  m.impl("polar_join", TORCH_BOX(&polar_join));
  m.impl("polar_join_backward", TORCH_BOX(&polar_join_backward));
}

}  // namespace steerlens
