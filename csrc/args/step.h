// The arguments of step and step_backward: planes of `area` coefficients, each with its own floor.
#pragma once

#include "../checks.h"
#include "../math/polar.h"

namespace steerlens {

// The gradient is real for synthesis="real" (its imaginary part is 0 there) and complex for
// synthesis="adjoint"; `gradient_parts` is 1 or 2.
template <typename T>
struct StepArgs {
  int64_t planes, area;
  int gradient_parts;
  T eps, floor;
  Rule rule;
  const Cplx<T>* coefficients;
  const T* gradient;
  T *phase_step, *amplitude_step;                  // written by step
  const T *grad_phase_step, *grad_amplitude_step;  // read by step_backward
  Cplx<T>* grad_coefficients;
  T* grad_gradient;
};

inline Rule check_rule(const char* op, int64_t rule) {
  if (rule != 0 && rule != 1) fail(op, "rule must be 0 (complex) or 1 (polar), got ", rule);
  return static_cast<Rule>(rule);
}

inline bool check_step(const char* op, Tensor& coefficients, Tensor& gradient) {
  const bool float64 = check_floating(op, "coefficients", coefficients, true);
  if (coefficients.dim() < 2)
    fail(op, "coefficients must have shape [..., h, w], got ", shape_text(shape_of(coefficients)));
  const ScalarType type = gradient.scalar_type();
  if (type != real_type(float64) && type != complex_type(float64))
    fail(op, "gradient must be real or complex with the coefficients' precision, got ",
         torch::headeronly::toString(type));
  check_same_device(op, "gradient", gradient, "coefficients", coefficients);
  check_shape(op, "gradient", gradient, shape_of(coefficients));
  coefficients = packed(coefficients);
  gradient = packed(gradient);
  return float64;
}

template <typename T>
StepArgs<T> step_args(const Tensor& c, const Tensor& gradient, double eps, Rule rule,
                      double floor) {
  StepArgs<T> args{};
  args.area = c.size(c.dim() - 2) * c.size(c.dim() - 1);
  args.planes = args.area > 0 ? c.numel() / args.area : 0;
  args.gradient_parts = is_complex(gradient.scalar_type()) ? 2 : 1;
  args.eps = static_cast<T>(eps);
  args.floor = static_cast<T>(floor);
  args.rule = rule;
  args.coefficients = read<Cplx<T>>(c);
  args.gradient = read<T>(gradient);
  return args;
}

template <typename Run>
std::tuple<Tensor, Tensor> step_with(Tensor coefficients, Tensor gradient, double eps, int64_t rule,
                                     double floor, const Run& run) {
  const Rule r = check_rule("step", rule);
  const bool float64 = check_step("step", coefficients, gradient);
  Tensor phase = new_tensor(coefficients, shape_of(coefficients), real_type(float64));
  Tensor amplitude = new_tensor(coefficients, shape_of(coefficients), real_type(float64));
  const auto launch = [&](auto zero) {
    using T = decltype(zero);
    StepArgs<T> args = step_args<T>(coefficients, gradient, eps, r, floor);
    args.phase_step = write<T>(phase);
    args.amplitude_step = write<T>(amplitude);
    run(args, coefficients);
  };
  launch_for(float64, coefficients.numel(), launch);
  return {phase, amplitude};
}

template <typename Run>
std::tuple<Tensor, Tensor> step_backward_with(Tensor grad_phase_step, Tensor grad_amplitude_step,
                                              Tensor coefficients, Tensor gradient, double eps,
                                              int64_t rule, double floor, const Run& run) {
  const char* op = "step_backward";
  const Rule r = check_rule(op, rule);
  const bool float64 = check_step(op, coefficients, gradient);
  for (const Tensor* g : {&grad_phase_step, &grad_amplitude_step}) {
    check_type(op, "the steps' gradients", *g, real_type(float64));
    check_same_device(op, "the steps' gradients", *g, "coefficients", coefficients);
    check_shape(op, "the steps' gradients", *g, shape_of(coefficients));
  }
  grad_phase_step = packed(grad_phase_step);
  grad_amplitude_step = packed(grad_amplitude_step);
  Tensor grad_c = new_tensor(coefficients, shape_of(coefficients), coefficients.scalar_type());
  Tensor grad_g = new_tensor(gradient, shape_of(gradient), gradient.scalar_type());
  const auto launch = [&](auto zero) {
    using T = decltype(zero);
    StepArgs<T> args = step_args<T>(coefficients, gradient, eps, r, floor);
    args.grad_phase_step = read<T>(grad_phase_step);
    args.grad_amplitude_step = read<T>(grad_amplitude_step);
    args.grad_coefficients = write<Cplx<T>>(grad_c);
    args.grad_gradient = write<T>(grad_g);
    run(args, coefficients);
  };
  launch_for(float64, coefficients.numel(), launch);
  return {grad_c, grad_g};
}

}  // namespace steerlens
