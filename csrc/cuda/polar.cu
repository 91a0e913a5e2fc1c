// polar_split, polar_join and their backwards on CUDA.
#include "../math/polar.h"

#include "../prepare/polar.h"
#include "launch.h"

namespace steerlens {
namespace {

struct NoPlaneData {};

// The arrays are flat: one plane of `count` coefficients.
template <typename T>
struct PolarOpBase {
  static constexpr int kPerThread = 16 / sizeof(T);
  PolarArgs<T> args;

  __device__ NoPlaneData plane_data(int64_t) const { return {}; }
};

template <typename T>
struct SplitOp : PolarOpBase<T> {
  template <typename P>
  __device__ void apply(NoPlaneData, P pieces) const {
    constexpr int kCount = P::kCount;
    const auto c = load(this->args.coefficients, pieces);
    Pack<T, kCount> amplitude, phase;
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      amplitude.v[j] = amplitude_of(c.v[j]);
      phase.v[j] = angle_of(c.v[j].im, c.v[j].re);
    }
    store(this->args.out_amplitude, pieces, amplitude);
    store(this->args.out_phase, pieces, phase);
  }
};

template <typename T>
struct SplitBackwardOp : PolarOpBase<T> {
  template <typename P>
  __device__ void apply(NoPlaneData, P pieces) const {
    constexpr int kCount = P::kCount;
    const auto c = load(this->args.coefficients, pieces);
    const auto grad_amplitude = load(this->args.amplitude, pieces);
    const auto grad_phase = load(this->args.phase, pieces);
    Pack<Cplx<T>, kCount> out;
#pragma unroll
    for (int j = 0; j < kCount; ++j)
      out.v[j] = polar_split_grad(c.v[j], grad_amplitude.v[j], grad_phase.v[j]);
    store(this->args.out_coefficients, pieces, out);
  }
};

template <typename T>
struct JoinOp : PolarOpBase<T> {
  template <typename P>
  __device__ void apply(NoPlaneData, P pieces) const {
    constexpr int kCount = P::kCount;
    const auto amplitude = load(this->args.amplitude, pieces);
    const auto phase = load(this->args.phase, pieces);
    Pack<Cplx<T>, kCount> out;
#pragma unroll
    for (int j = 0; j < kCount; ++j) out.v[j] = polar_join_value(amplitude.v[j], phase.v[j]);
    store(this->args.out_coefficients, pieces, out);
  }
};

template <typename T>
struct JoinBackwardOp : PolarOpBase<T> {
  template <typename P>
  __device__ void apply(NoPlaneData, P pieces) const {
    constexpr int kCount = P::kCount;
    const auto grad = load(this->args.coefficients, pieces);
    const auto amplitude = load(this->args.amplitude, pieces);
    const auto phase = load(this->args.phase, pieces);
    Pack<T, kCount> grad_amplitude, grad_phase;
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const PolarPair<T> g = polar_join_grad(grad.v[j], amplitude.v[j], phase.v[j]);
      grad_amplitude.v[j] = g.amplitude;
      grad_phase.v[j] = g.phase;
    }
    store(this->args.out_amplitude, pieces, grad_amplitude);
    store(this->args.out_phase, pieces, grad_phase);
  }
};

template <template <typename> class Op, typename T>
void launch(const PolarArgs<T>& args, const Tensor& on) {
  const bool wide = aligned({args.coefficients, args.amplitude, args.phase, args.out_coefficients,
                             args.out_amplitude, args.out_phase});
  for_each_coefficient<kWidePiece<T>>(Op<T>{{args}}, 1, args.count, wide, Launcher(on));
}

std::tuple<Tensor, Tensor> polar_split(Tensor coefficients) {
  auto p = prepare_polar_split(coefficients);
  run_kernel(p, [&](const auto& args) { launch<SplitOp>(args, p.coefficients); });
  return {p.amplitude, p.phase};
}

Tensor polar_split_backward(Tensor coefficients, Tensor grad_amplitude, Tensor grad_phase) {
  auto p = prepare_polar_split_backward(coefficients, grad_amplitude, grad_phase);
  run_kernel(p, [&](const auto& args) { launch<SplitBackwardOp>(args, p.coefficients); });
  return p.grad_coefficients;
}

Tensor polar_join(Tensor amplitude, Tensor phase) {
  auto p = prepare_polar_join(amplitude, phase);
  run_kernel(p, [&](const auto& args) { launch<JoinOp>(args, p.amplitude); });
  return p.coefficients;
}

std::tuple<Tensor, Tensor> polar_join_backward(Tensor grad, Tensor amplitude, Tensor phase) {
  auto p = prepare_polar_join_backward(grad, amplitude, phase);
  run_kernel(p, [&](const auto& args) { launch<JoinBackwardOp>(args, p.grad); });
  return {p.grad_amplitude, p.grad_phase};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CUDA, m) {
  m.impl("polar_split", TORCH_BOX(&polar_split));
  m.impl("polar_split_backward", TORCH_BOX(&polar_split_backward));
  m.impl("polar_join", TORCH_BOX(&polar_join));
  m.impl("polar_join_backward", TORCH_BOX(&polar_join_backward));
}

}  // namespace steerlens
