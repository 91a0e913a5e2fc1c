// Checks the arguments of extrapolate and extrapolate_backward, and allocates their results.
//
// There are N planes. Here, a *plane* is the coefficients of all K orientations of one scale of an image plane. Each of
// F frames has a phase factor and an amplitude factor, which may differ between planes.
#pragma once

#include "../checks.h"
#include "../kernel_args/extrapolate.h"
#include "step.h"

namespace steerlens {

inline Form check_form(const char* op, const ArgName& name, int64_t form,
                       const std::vector<Form>& allowed) {
  constexpr const char* kNames[] = {"real", "complex", "pairs", "widened"};
  std::ostringstream expected;
  for (size_t i = 0; i < allowed.size(); ++i) {
    const int number = static_cast<int>(allowed[i]);
    if (form == number) return allowed[i];
    expected << (i == 0 ? "" : i + 1 == allowed.size() ? " or " : ", ");
    expected << number << " (" << kNames[number] << ")";
  }
  fail(op, name, " must be ", expected.str(), ", got ", form);
}

inline const std::vector<Form> kFormsWithPairs = {Form::kReal, Form::kComplex, Form::kPairs};

// The inputs of extrapolate, which its backward reads, too. A coordinate (phase or amplitude) without a step does not
// move.
struct FrameInputs {
  Tensor coefficients, phase_factors, amplitude_factors;
  std::optional<Tensor> phase_step, amplitude_step;
  Rule rule = Rule::kComplex;

  bool float64() const { return is_double(coefficients.scalar_type()); }

  template <typename T>
  FrameArgs<T> args() const {
    const Tensor& c = coefficients;
    FrameArgs<T> args{};
    args.frames = phase_factors.size(0);
    args.planes = c.size(0);
    args.area = args.planes > 0 ? c.numel() / args.planes : 0;
    args.orientations = c.size(1);
    args.rule = rule;
    args.coefficients = const_data<Cplx<T>>(c);
    args.phase_step = phase_step.has_value() ? const_data<T>(*phase_step) : nullptr;
    args.amplitude_step = amplitude_step.has_value() ? const_data<T>(*amplitude_step) : nullptr;
    args.phase_factors = const_data<T>(phase_factors);
    args.amplitude_factors = const_data<T>(amplitude_factors);
    args.factor_stride = phase_factors.size(1) == 1 ? 0 : 1;
    return args;
  }
};

struct Extrapolate : FrameInputs {
  Form form;
  Tensor frames;  // result

  int64_t count() const { return frames.numel(); }

  template <typename T>
  FrameArgs<T> args() {
    FrameArgs<T> args = FrameInputs::args<T>();
    args.form = form;
    args.frames_out = mutable_data<T>(frames);
    return args;
  }
};

struct ExtrapolateBackward : FrameInputs {
  Tensor grad;
  Tensor grad_coefficients, grad_phase_step, grad_amplitude_step;  // results

  int64_t count() const { return grad_coefficients.numel(); }

  template <typename T>
  FrameArgs<T> args() {
    FrameArgs<T> args = FrameInputs::args<T>();
    args.frame_parts = is_complex(grad.scalar_type()) ? 2 : 1;
    args.grad_frames = const_data<T>(grad);
    args.grad_coefficients = mutable_data<Cplx<T>>(grad_coefficients);
    args.grad_phase_step = mutable_data<T>(grad_phase_step);
    args.grad_amplitude_step = mutable_data<T>(grad_amplitude_step);
    return args;
  }
};

inline void check_step_tensor(const char* op, const char* name, std::optional<Tensor>& t,
                              const Tensor& c, bool float64) {
  if (!t.has_value()) return;
  check_type(op, name, *t, real_type(float64));
  check_same_device(op, name, *t, "coefficients", c);
  check_shape(op, name, *t, shape_of(c));
  t = as_contiguous(*t);
}

// Checks the factors of F frames: [F, 1], one factor for all N planes, or [F, N], one for each plane.
inline void check_factors(const char* op, const char* name, Tensor& t, const char* planes_name,
                          const Tensor& planes, bool float64) {
  check_type(op, name, t, real_type(float64));
  check_same_device(op, name, t, planes_name, planes);
  check_rank(op, name, t, 2, "[F, 1] or [F, N]");
  if (t.size(1) != 1 && t.size(1) != planes.size(0))
    fail(op, name, " must have shape [F, 1] or [F, N] with N = ", planes.size(0), ", got ",
         shape_text(shape_of(t)));
  t = as_contiguous(t);
}

inline void check_frames(const char* op, FrameInputs& in, int64_t rule) {
  in.rule = check_rule(op, rule);
  const bool float64 = check_floating(op, "coefficients", in.coefficients, true);
  check_rank(op, "coefficients", in.coefficients, 4, "[N, K, h, w]");
  in.coefficients = as_contiguous(in.coefficients);
  const Tensor& c = in.coefficients;
  check_step_tensor(op, "phase_step", in.phase_step, c, float64);
  check_step_tensor(op, "amplitude_step", in.amplitude_step, c, float64);
  check_factors(op, "phase_factors", in.phase_factors, "coefficients", c, float64);
  check_factors(op, "amplitude_factors", in.amplitude_factors, "coefficients", c, float64);
  check_shape(op, "amplitude_factors", in.amplitude_factors, shape_of(in.phase_factors));
}

inline Extrapolate prepare_extrapolate(FrameInputs in, int64_t rule, int64_t form) {
  check_frames("extrapolate", in, rule);
  const Form checked_form = check_form("extrapolate", "form", form, kFormsWithPairs);
  Shape shape = shape_of(in.coefficients);
  if (checked_form == Form::kPairs) shape[1] = pairs_of(shape[1]);
  shape.insert(shape.begin(), in.phase_factors.size(0));
  const bool real = checked_form == Form::kReal;
  const ScalarType type = real ? real_type(in.float64()) : complex_type(in.float64());
  return {in, checked_form, new_tensor(in.coefficients, shape, type)};
}

inline ExtrapolateBackward prepare_extrapolate_backward(const Tensor& grad, FrameInputs in,
                                                        int64_t rule) {
  const char* op = "extrapolate_backward";
  check_frames(op, in, rule);
  const Tensor& c = in.coefficients;
  const ScalarType real = real_type(in.float64()), complex = complex_type(in.float64());
  check_type(op, "grad", grad, is_complex(grad.scalar_type()) ? complex : real);
  check_same_device(op, "grad", grad, "coefficients", c);
  const Shape shape = shape_of(c);
  Shape frames_shape = shape;
  frames_shape.insert(frames_shape.begin(), in.phase_factors.size(0));
  check_shape(op, "grad", grad, frames_shape);
  const Shape empty = {0};  // for the gradient of a step that is not given
  return {in, as_contiguous(grad), new_tensor(c, shape, complex),
          new_tensor(c, in.phase_step ? shape : empty, real),
          new_tensor(c, in.amplitude_step ? shape : empty, real)};
}

}  // namespace steerlens
