// step and step_backward on CUDA, in two launches. The first finds the largest amplitudes of parts of each band. The
// second combines the parts and computes the step. Results are deterministic, since a maximum does not depend on the
// order of comparisons.
#include "../prepare/step.h"

#include "../math/polar.h"
#include "launch.h"
#include "reduce.h"

namespace steerlens {
namespace {

// A smaller part would not be worth a block. A band has at most kMaxParts parts.
constexpr int64_t kPartSize = 4096, kMaxParts = 256;

// parts[n, x] = the largest amplitude among the coefficients of band n that blocks with blockIdx.x = x read.
template <int kPieceSize, typename T>
__global__ void __launch_bounds__(kThreads, kMinBlocks)
    largest_kernel(const Cplx<T>* coefficients, int64_t bands, int64_t area, T* parts) {
  constexpr int kPerThread = 16 / sizeof(T);
  const int64_t warps = warps_of<kPerThread>(area),
                stride = int64_t{gridDim.x} * (kThreads / kWarp);
  for (int64_t n = blockIdx.y; n < bands; n += gridDim.y) {
    T largest = T(0);
    for (int64_t warp = warp_in_row(); warp < warps; warp += stride) {
      const auto c = load(coefficients, Pieces<kPerThread / kPieceSize, kPieceSize>(n, area, warp));
#pragma unroll
      for (int j = 0; j < kPerThread; ++j) largest = larger(amplitude_of(c.v[j]), largest);
    }
    largest = largest_of_block(largest);
    if (threadIdx.x == 0) parts[n * gridDim.x + blockIdx.x] = largest;
  }
}

template <typename T>
struct StepOpBase {
  static constexpr int kPerThread = 16 / sizeof(T);
  StepArgs<T> args;
  const T* parts;  // [bands, parts_per_band]
  int parts_per_band;

  // The threshold of band n, for for_each_kernel (launch.h). All threads of a warp must call this.
  __device__ T plane_data(int64_t n) const {
    T largest = T(0);
    for (int i = threadIdx.x % kWarp; i < parts_per_band; i += kWarp)
      largest = larger(load_one(parts + n * parts_per_band + i), largest);
    return step_threshold(args.floor, largest_of_warp(largest));
  }

  template <typename P>
  __device__ Pack<Cplx<T>, P::kCount> gradient(P pieces) const {
    if (args.gradient_parts == 2)
      return load(reinterpret_cast<const Cplx<T>*>(args.gradient), pieces);
    const auto real = load(args.gradient, pieces);
    Pack<Cplx<T>, P::kCount> pack;
#pragma unroll
    for (int j = 0; j < P::kCount; ++j) pack.v[j] = {real.v[j], T(0)};
    return pack;
  }
};

template <typename T, Rule kRule>
struct StepOp : StepOpBase<T> {
  template <typename P>
  __device__ void apply(T threshold, P pieces) const {
    constexpr int kCount = P::kCount;
    const StepArgs<T>& args = this->args;
    const auto c = load(args.coefficients, pieces);
    const auto g = this->gradient(pieces);
    Pack<T, kCount> phase, amplitude;
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const PolarPair<T> s = step_above(c.v[j], g.v[j], args.eps, kRule, threshold);
      phase.v[j] = s.phase;
      amplitude.v[j] = s.amplitude;
    }
    store(args.phase_step, pieces, phase);
    store(args.amplitude_step, pieces, amplitude);
  }
};

template <typename T, Rule kRule>
struct StepBackwardOp : StepOpBase<T> {
  template <typename P>
  __device__ void apply(T threshold, P pieces) const {
    constexpr int kCount = P::kCount;
    const StepArgs<T>& args = this->args;
    const auto c = load(args.coefficients, pieces);
    const auto g = this->gradient(pieces);
    const auto grad_phase = load(args.grad_phase_step, pieces);
    const auto grad_amplitude = load(args.grad_amplitude_step, pieces);
    Pack<Cplx<T>, kCount> grad_c, grad_g;
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const StepGrad<T> grad = step_above_grad(c.v[j], g.v[j], args.eps, kRule, threshold,
                                               grad_phase.v[j], grad_amplitude.v[j]);
      grad_c.v[j] = grad.c;
      grad_g.v[j] = grad.gradient;
    }
    store(args.grad_coefficients, pieces, grad_c);
    store_gradient(pieces, grad_g);
  }

  template <typename P>
  __device__ void store_gradient(P pieces, const Pack<Cplx<T>, P::kCount>& grad) const {
    if (this->args.gradient_parts == 2)
      return store(reinterpret_cast<Cplx<T>*>(this->args.grad_gradient), pieces, grad);
    Pack<T, P::kCount> real;
#pragma unroll
    for (int j = 0; j < P::kCount; ++j) real.v[j] = grad.v[j].re;
    store(this->args.grad_gradient, pieces, real);
  }
};

template <typename T>
Tensor largest_amplitudes(const StepArgs<T>& args, const Tensor& coefficients,
                          const Launcher& launcher) {
  const int64_t parts = std::min((args.area + kPartSize - 1) / kPartSize, kMaxParts);
  Tensor out = new_tensor(coefficients, {args.bands, parts}, real_type(sizeof(T) == 8));
  constexpr int kPieceSize = kWidePiece<T>;
  const bool wide = aligned({args.coefficients}) && args.area % kPieceSize == 0;
  const dim3 grid(static_cast<unsigned>(parts), grid_size(args.bands, 1, kMaxGridY));
  launcher.run(wide ? largest_kernel<kPieceSize, T> : largest_kernel<1, T>, grid, kThreads,
               args.coefficients, args.bands, args.area, mutable_data<T>(out));
  return out;
}

// Launches Op = StepOp or StepBackwardOp.
template <template <typename, Rule> class Op, typename T>
void launch(const StepArgs<T>& args, const Tensor& coefficients) {
  const Launcher launcher(coefficients);
  const Tensor parts = largest_amplitudes(args, coefficients, launcher);
  const StepOpBase<T> op{args, const_data<T>(parts), static_cast<int>(parts.size(1))};
  const bool wide = aligned({args.coefficients, args.gradient, args.phase_step, args.amplitude_step,
                             args.grad_phase_step, args.grad_amplitude_step, args.grad_coefficients,
                             args.grad_gradient});
  if (args.rule == Rule::kComplex)
    for_each_coefficient<kWidePiece<T>>(Op<T, Rule::kComplex>{op}, args.bands, args.area, wide,
                                        launcher);
  else
    for_each_coefficient<kWidePiece<T>>(Op<T, Rule::kPolar>{op}, args.bands, args.area, wide,
                                        launcher);
}

std::tuple<Tensor, Tensor> step(Tensor coefficients, Tensor gradient, double eps, int64_t rule,
                                double floor) {
  auto p = prepare_step(coefficients, gradient, eps, rule, floor);
  run_kernel(p, [&](const auto& args) { launch<StepOp>(args, p.coefficients); });
  return {p.phase_step, p.amplitude_step};
}

std::tuple<Tensor, Tensor> step_backward(Tensor grad_phase_step, Tensor grad_amplitude_step,
                                         Tensor coefficients, Tensor gradient, double eps,
                                         int64_t rule, double floor) {
  auto p = prepare_step_backward(grad_phase_step, grad_amplitude_step, coefficients, gradient, eps,
                                 rule, floor);
  run_kernel(p, [&](const auto& args) { launch<StepBackwardOp>(args, p.coefficients); });
  return {p.grad_coefficients, p.grad_gradient};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CUDA, m) {
  m.impl("step", TORCH_BOX(&step));
  m.impl("step_backward", TORCH_BOX(&step_backward));
}

}  // namespace steerlens
