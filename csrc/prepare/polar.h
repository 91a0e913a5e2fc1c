// Checks the arguments of polar_split, polar_join and their backwards, and allocates their results.
#pragma once

#include "../checks.h"
#include "../kernel_args/polar.h"

namespace steerlens {

struct PolarSplit {
  Tensor coefficients;
  Tensor amplitude, phase;  // results

  bool float64() const { return is_double(coefficients.scalar_type()); }
  int64_t count() const { return coefficients.numel(); }

  template <typename T>
  PolarArgs<T> args() {
    PolarArgs<T> args{};
    args.count = count();
    args.coefficients = const_data<Cplx<T>>(coefficients);
    args.out_amplitude = mutable_data<T>(amplitude);
    args.out_phase = mutable_data<T>(phase);
    return args;
  }
};

struct PolarSplitBackward {
  Tensor coefficients, grad_amplitude, grad_phase;
  Tensor grad_coefficients;  // result

  bool float64() const { return is_double(coefficients.scalar_type()); }
  int64_t count() const { return coefficients.numel(); }

  template <typename T>
  PolarArgs<T> args() {
    PolarArgs<T> args{};
    args.count = count();
    args.coefficients = const_data<Cplx<T>>(coefficients);
    args.amplitude = const_data<T>(grad_amplitude);
    args.phase = const_data<T>(grad_phase);
    args.out_coefficients = mutable_data<Cplx<T>>(grad_coefficients);
    return args;
  }
};

struct PolarJoin {
  Tensor amplitude, phase;
  Tensor coefficients;  // result

  bool float64() const { return is_double(amplitude.scalar_type()); }
  int64_t count() const { return amplitude.numel(); }

  template <typename T>
  PolarArgs<T> args() {
    PolarArgs<T> args{};
    args.count = count();
    args.amplitude = const_data<T>(amplitude);
    args.phase = const_data<T>(phase);
    args.out_coefficients = mutable_data<Cplx<T>>(coefficients);
    return args;
  }
};

struct PolarJoinBackward {
  Tensor grad, amplitude, phase;
  Tensor grad_amplitude, grad_phase;  // results

  bool float64() const { return is_double(amplitude.scalar_type()); }
  int64_t count() const { return amplitude.numel(); }

  template <typename T>
  PolarArgs<T> args() {
    PolarArgs<T> args{};
    args.count = count();
    args.coefficients = const_data<Cplx<T>>(grad);
    args.amplitude = const_data<T>(amplitude);
    args.phase = const_data<T>(phase);
    args.out_amplitude = mutable_data<T>(grad_amplitude);
    args.out_phase = mutable_data<T>(grad_phase);
    return args;
  }
};

// Checks that two real tensors have the same shape, precision and device, and makes them contiguous; returns whether
// they are float64.
inline bool check_real_tensors(const char* op, const char* a_name, Tensor& a, const char* b_name,
                               Tensor& b) {
  const bool float64 = check_floating(op, a_name, a, false);
  check_type(op, b_name, b, a.scalar_type());
  check_same_device(op, b_name, b, a_name, a);
  check_shape(op, b_name, b, shape_of(a));
  a = as_contiguous(a);
  b = as_contiguous(b);
  return float64;
}

inline PolarSplit prepare_polar_split(const Tensor& coefficients) {
  const bool float64 = check_floating("polar_split", "coefficients", coefficients, true);
  const Tensor c = as_contiguous(coefficients);
  return {c, new_tensor(c, shape_of(c), real_type(float64)),
          new_tensor(c, shape_of(c), real_type(float64))};
}

inline PolarSplitBackward prepare_polar_split_backward(const Tensor& coefficients,
                                                       Tensor grad_amplitude, Tensor grad_phase) {
  const char* op = "polar_split_backward";
  const bool float64 = check_floating(op, "coefficients", coefficients, true);
  check_type(op, "grad_amplitude", grad_amplitude, real_type(float64));
  check_same_device(op, "grad_amplitude", grad_amplitude, "coefficients", coefficients);
  check_shape(op, "grad_amplitude", grad_amplitude, shape_of(coefficients));
  check_real_tensors(op, "grad_amplitude", grad_amplitude, "grad_phase", grad_phase);
  const Tensor c = as_contiguous(coefficients);
  return {c, grad_amplitude, grad_phase, new_tensor(c, shape_of(c), c.scalar_type())};
}

inline PolarJoin prepare_polar_join(Tensor amplitude, Tensor phase) {
  const bool float64 = check_real_tensors("polar_join", "amplitude", amplitude, "phase", phase);
  return {amplitude, phase, new_tensor(amplitude, shape_of(amplitude), complex_type(float64))};
}

inline PolarJoinBackward prepare_polar_join_backward(const Tensor& grad, Tensor amplitude,
                                                     Tensor phase) {
  const char* op = "polar_join_backward";
  const bool float64 = check_real_tensors(op, "amplitude", amplitude, "phase", phase);
  check_type(op, "grad", grad, complex_type(float64));
  check_same_device(op, "grad", grad, "amplitude", amplitude);
  check_shape(op, "grad", grad, shape_of(amplitude));
  const Tensor g = as_contiguous(grad);
  return {g, amplitude, phase, new_tensor(g, shape_of(g), real_type(float64)),
          new_tensor(g, shape_of(g), real_type(float64))};
}

}  // namespace steerlens
