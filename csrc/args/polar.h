// The arguments of polar_split, polar_join and their backwards: flat arrays of one length.
#pragma once

#include "../checks.h"

namespace steerlens {

template <typename T>
struct PolarArgs {
  int64_t count;
  const Cplx<T>* coefficients;  // or the gradient of polar_join's output
  const T *amplitude, *phase;   // or the gradients of polar_split's outputs
  Cplx<T>* out_coefficients;
  T *out_amplitude, *out_phase;
};

// Two real tensors of the shape and precision of each other, made contiguous.
inline bool check_pair(const char* op, const char* a_name, Tensor& a, const char* b_name,
                       Tensor& b) {
  const bool float64 = check_floating(op, a_name, a, false);
  check_type(op, b_name, b, a.scalar_type());
  check_same_device(op, b_name, b, a_name, a);
  check_shape(op, b_name, b, shape_of(a));
  a = packed(a);
  b = packed(b);
  return float64;
}

template <typename Run>
std::tuple<Tensor, Tensor> polar_split_with(Tensor coefficients, const Run& run) {
  const bool float64 = check_floating("polar_split", "coefficients", coefficients, true);
  const Tensor c = packed(coefficients);
  Tensor amplitude = new_tensor(c, shape_of(c), real_type(float64));
  Tensor phase = new_tensor(c, shape_of(c), real_type(float64));
  launch_for(float64, c.numel(), [&](auto zero) {
    using T = decltype(zero);
    PolarArgs<T> args{};
    args.count = c.numel();
    args.coefficients = read<Cplx<T>>(c);
    args.out_amplitude = write<T>(amplitude);
    args.out_phase = write<T>(phase);
    run(args, c);
  });
  return {amplitude, phase};
}

template <typename Run>
Tensor polar_split_backward_with(Tensor coefficients, Tensor grad_amplitude, Tensor grad_phase,
                                 const Run& run) {
  const char* op = "polar_split_backward";
  const bool float64 = check_floating(op, "coefficients", coefficients, true);
  check_type(op, "grad_amplitude", grad_amplitude, real_type(float64));
  check_same_device(op, "grad_amplitude", grad_amplitude, "coefficients", coefficients);
  check_shape(op, "grad_amplitude", grad_amplitude, shape_of(coefficients));
  check_pair(op, "grad_amplitude", grad_amplitude, "grad_phase", grad_phase);
  const Tensor c = packed(coefficients);
  Tensor out = new_tensor(c, shape_of(c), c.scalar_type());
  launch_for(float64, c.numel(), [&](auto zero) {
    using T = decltype(zero);
    PolarArgs<T> args{};
    args.count = c.numel();
    args.coefficients = read<Cplx<T>>(c);
    args.amplitude = read<T>(grad_amplitude);
    args.phase = read<T>(grad_phase);
    args.out_coefficients = write<Cplx<T>>(out);
    run(args, c);
  });
  return out;
}

template <typename Run>
Tensor polar_join_with(Tensor amplitude, Tensor phase, const Run& run) {
  const bool float64 = check_pair("polar_join", "amplitude", amplitude, "phase", phase);
  Tensor out = new_tensor(amplitude, shape_of(amplitude), complex_type(float64));
  launch_for(float64, out.numel(), [&](auto zero) {
    using T = decltype(zero);
    PolarArgs<T> args{};
    args.count = out.numel();
    args.amplitude = read<T>(amplitude);
    args.phase = read<T>(phase);
    args.out_coefficients = write<Cplx<T>>(out);
    run(args, out);
  });
  return out;
}

template <typename Run>
std::tuple<Tensor, Tensor> polar_join_backward_with(Tensor grad, Tensor amplitude, Tensor phase,
                                                    const Run& run) {
  const char* op = "polar_join_backward";
  const bool float64 = check_pair(op, "amplitude", amplitude, "phase", phase);
  check_type(op, "grad", grad, complex_type(float64));
  check_same_device(op, "grad", grad, "amplitude", amplitude);
  check_shape(op, "grad", grad, shape_of(amplitude));
  const Tensor g = packed(grad);
  Tensor grad_amplitude = new_tensor(g, shape_of(g), real_type(float64));
  Tensor grad_phase = new_tensor(g, shape_of(g), real_type(float64));
  launch_for(float64, g.numel(), [&](auto zero) {
    using T = decltype(zero);
    PolarArgs<T> args{};
    args.count = g.numel();
    args.coefficients = read<Cplx<T>>(g);
    args.amplitude = read<T>(amplitude);
    args.phase = read<T>(phase);
    args.out_amplitude = write<T>(grad_amplitude);
    args.out_phase = write<T>(grad_phase);
    run(args, g);
  });
  return {grad_amplitude, grad_phase};
}

}  // namespace steerlens
