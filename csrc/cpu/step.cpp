// step and step_backward on the CPU: bands in parallel.
#include "../prepare/step.h"
#include "kernels/step.h"
#include "parallel.h"

namespace steerlens {
namespace {

std::tuple<Tensor, Tensor> step(Tensor coefficients, Tensor gradient, double eps, int64_t rule,
                                double floor) {
  auto p = prepare_step(coefficients, gradient, eps, rule, floor);
  run_kernel(p, [](const auto& args) {
    parallel_rows(args.bands, args.area,
                  [&](int64_t begin, int64_t end) { step_bands(args, begin, end); });
  });
  return {p.phase_step, p.amplitude_step};
}

std::tuple<Tensor, Tensor> step_backward(Tensor grad_phase_step, Tensor grad_amplitude_step,
                                         Tensor coefficients, Tensor gradient, double eps,
                                         int64_t rule, double floor) {
  auto p = prepare_step_backward(grad_phase_step, grad_amplitude_step, coefficients, gradient, eps,
                                 rule, floor);
  run_kernel(p, [](const auto& args) {
    parallel_rows(args.bands, args.area,
                  [&](int64_t begin, int64_t end) { step_backward_bands(args, begin, end); });
  });
  return {p.grad_coefficients, p.grad_gradient};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CPU, m) {
  m.impl("step", TORCH_BOX(&step));
  m.impl("step_backward", TORCH_BOX(&step_backward));
}

}  // namespace steerlens
