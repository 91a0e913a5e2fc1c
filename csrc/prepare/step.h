// Checks the arguments of step and step_backward, and allocates their results.
#pragma once

#include "../checks.h"
#include "../kernel_args/step.h"

namespace steerlens {

inline Rule check_rule(const char* op, int64_t rule) {
  if (rule != 0 && rule != 1) fail(op, "rule must be 0 (complex) or 1 (polar), got ", rule);
  return static_cast<Rule>(rule);
}

// The inputs of step, which its backward reads, too.
struct StepInputs {
  Tensor coefficients, gradient;
  double eps;
  Rule rule;
  double floor;

  bool float64() const { return is_double(coefficients.scalar_type()); }
  int64_t count() const { return coefficients.numel(); }

  template <typename T>
  StepArgs<T> args() const {
    const Tensor& c = coefficients;
    StepArgs<T> args{};
    args.area = c.size(c.dim() - 2) * c.size(c.dim() - 1);
    args.bands = args.area > 0 ? c.numel() / args.area : 0;
    args.gradient_parts = is_complex(gradient.scalar_type()) ? 2 : 1;
    args.eps = static_cast<T>(eps);
    args.floor = static_cast<T>(floor);
    args.rule = rule;
    args.coefficients = const_data<Cplx<T>>(c);
    args.gradient = const_data<T>(gradient);
    return args;
  }
};

struct Step : StepInputs {
  Tensor phase_step, amplitude_step;  // results

  template <typename T>
  StepArgs<T> args() {
    StepArgs<T> args = StepInputs::args<T>();
    args.phase_step = mutable_data<T>(phase_step);
    args.amplitude_step = mutable_data<T>(amplitude_step);
    return args;
  }
};

struct StepBackward : StepInputs {
  Tensor grad_phase_step, grad_amplitude_step;
  Tensor grad_coefficients, grad_gradient;  // results

  template <typename T>
  StepArgs<T> args() {
    StepArgs<T> args = StepInputs::args<T>();
    args.grad_phase_step = const_data<T>(grad_phase_step);
    args.grad_amplitude_step = const_data<T>(grad_amplitude_step);
    args.grad_coefficients = mutable_data<Cplx<T>>(grad_coefficients);
    args.grad_gradient = mutable_data<T>(grad_gradient);
    return args;
  }
};

inline StepInputs check_step(const char* op, const Tensor& coefficients, const Tensor& gradient,
                             double eps, int64_t rule, double floor) {
  const Rule checked_rule = check_rule(op, rule);
  const bool float64 = check_floating(op, "coefficients", coefficients, true);
  if (coefficients.dim() < 2)
    fail(op, "coefficients must have shape [..., h, w], got ", shape_text(shape_of(coefficients)));
  const ScalarType type = gradient.scalar_type();
  if (type != real_type(float64) && type != complex_type(float64))
    fail(op, "gradient must be real or complex with the coefficients' precision, got ",
         dtype_text(type));
  check_same_device(op, "gradient", gradient, "coefficients", coefficients);
  check_shape(op, "gradient", gradient, shape_of(coefficients));
  return {as_contiguous(coefficients), as_contiguous(gradient), eps, checked_rule, floor};
}

inline Step prepare_step(const Tensor& coefficients, const Tensor& gradient, double eps,
                         int64_t rule, double floor) {
  const StepInputs in = check_step("step", coefficients, gradient, eps, rule, floor);
  const Shape shape = shape_of(in.coefficients);
  const ScalarType type = real_type(in.float64());
  return {in, new_tensor(in.coefficients, shape, type), new_tensor(in.coefficients, shape, type)};
}

inline StepBackward prepare_step_backward(const Tensor& grad_phase_step,
                                          const Tensor& grad_amplitude_step,
                                          const Tensor& coefficients, const Tensor& gradient,
                                          double eps, int64_t rule, double floor) {
  const char* op = "step_backward";
  const StepInputs in = check_step(op, coefficients, gradient, eps, rule, floor);
  const Tensor &c = in.coefficients, &g = in.gradient;
  const auto check_grad = [&](const char* name, const Tensor& grad) {
    check_type(op, name, grad, real_type(in.float64()));
    check_same_device(op, name, grad, "coefficients", c);
    check_shape(op, name, grad, shape_of(c));
    return as_contiguous(grad);
  };
  const Tensor grad_phase = check_grad("grad_phase_step", grad_phase_step);
  const Tensor grad_amplitude = check_grad("grad_amplitude_step", grad_amplitude_step);
  return {in, grad_phase, grad_amplitude, new_tensor(c, shape_of(c), c.scalar_type()),
          new_tensor(g, shape_of(g), g.scalar_type())};
}

}  // namespace steerlens
