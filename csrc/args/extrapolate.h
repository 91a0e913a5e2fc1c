// The arguments of extrapolate and extrapolate_backward: N planes of `area` coefficients (all K
// orientations of one image together), F frames, one pair of factors for each frame (and plane).
#pragma once

#include "../checks.h"
#include "../math/extrapolate.h"
#include "step.h"

namespace steerlens {

// What frames hold: Re(c_j); c_j, both quadratures; or the real parts of two orientations as one
// complex number, [F, N, ceil(K/2), h, w], whose FFT serves both.
enum class Form : int { kReal = 0, kBoth = 1, kPairs = 2 };

template <typename T>
struct FrameArgs {
  int64_t frames, planes, area, orientations;
  Rule rule;
  Form form;        // of frames_out
  int frame_parts;  // 2 where grad_frames are complex, else 1
  const Cplx<T>* coefficients;
  const T *phase_step, *amplitude_step;  // null where nothing moves
  const T *phase_factors, *amplitude_factors;
  int64_t factor_stride;  // factors are [F, factor_stride ? planes : 1]
  T* frames_out;          // written by extrapolate
  const T* grad_frames;   // read by extrapolate_backward
  Cplx<T>* grad_coefficients;
  T *grad_phase_step, *grad_amplitude_step;
};

template <typename T>
SL_FN int64_t factor_index(const FrameArgs<T>& args, int64_t frame, int64_t plane) {
  return args.factor_stride ? frame * args.planes + plane : frame;
}

// A pair of orientations, counted through all planes: where it begins and whether it is whole.
struct Pair {
  int64_t plane, first, band;  // first: of its coefficients; band: how many each orientation has
  bool both;
};

template <typename T>
SL_FN int64_t pairs_per_plane(const FrameArgs<T>& args) {
  return pairs_of(args.orientations);
}

template <typename T>
SL_FN Pair pair_at(const FrameArgs<T>& args, int64_t pair) {
  const int64_t plane = pair / pairs_per_plane(args), k = pair % pairs_per_plane(args) * 2;
  const int64_t band = args.area / args.orientations;
  return {plane, plane * args.area + k * band, band, k + 1 < args.orientations};
}

// Calls body.template run<Extrapolation<...>>() for what moves; a switch outside every loop.
template <typename Body>
SL_HOST_FN void for_edit(bool phase, bool amplitude, Rule rule, const Body& body) {
  if (!amplitude) {
    if (phase)
      body.template run<Extrapolation<true, false, Rule::kComplex>>();
    else
      body.template run<Extrapolation<false, false, Rule::kComplex>>();
  } else if (rule == Rule::kComplex) {
    if (phase)
      body.template run<Extrapolation<true, true, Rule::kComplex>>();
    else
      body.template run<Extrapolation<false, true, Rule::kComplex>>();
  } else {
    if (phase)
      body.template run<Extrapolation<true, true, Rule::kPolar>>();
    else
      body.template run<Extrapolation<false, true, Rule::kPolar>>();
  }
}

template <typename T, typename Body>
SL_HOST_FN void for_extrapolation(const FrameArgs<T>& args, const Body& body) {
  for_edit(args.phase_step != nullptr, args.amplitude_step != nullptr, args.rule, body);
}

struct FrameTensors {
  Tensor coefficients, phase_factors, amplitude_factors;
  std::optional<Tensor> phase_step, amplitude_step;
  bool float64;
};

inline void check_step_tensor(const char* op, const char* name, std::optional<Tensor>& t,
                              const Tensor& c, bool float64) {
  if (!t.has_value()) return;
  check_type(op, name, *t, real_type(float64));
  check_same_device(op, name, *t, "coefficients", c);
  check_shape(op, name, *t, shape_of(c));
  t = packed(*t);
}

// Of `of`'s N planes.
inline void check_factors(const char* op, const char* name, Tensor& t, const char* of_name,
                          const Tensor& of, bool float64) {
  check_type(op, name, t, real_type(float64));
  check_same_device(op, name, t, of_name, of);
  check_rank(op, name, t, 2, "[F, 1] or [F, N]");
  if (t.size(1) != 1 && t.size(1) != of.size(0))
    fail(op, name, " must have shape [F, 1] or [F, N] with N = ", of.size(0), ", got ",
         shape_text(shape_of(t)));
  t = packed(t);
}

inline void check_frames(const char* op, FrameTensors& t) {
  t.float64 = check_floating(op, "coefficients", t.coefficients, true);
  check_rank(op, "coefficients", t.coefficients, 4, "[N, K, h, w]");
  t.coefficients = packed(t.coefficients);
  check_step_tensor(op, "phase_step", t.phase_step, t.coefficients, t.float64);
  check_step_tensor(op, "amplitude_step", t.amplitude_step, t.coefficients, t.float64);
  check_factors(op, "phase_factors", t.phase_factors, "coefficients", t.coefficients, t.float64);
  check_factors(op, "amplitude_factors", t.amplitude_factors, "coefficients", t.coefficients,
                t.float64);
  check_shape(op, "amplitude_factors", t.amplitude_factors, shape_of(t.phase_factors));
}

template <typename T>
FrameArgs<T> frame_args(const FrameTensors& t, Rule rule) {
  const Tensor& c = t.coefficients;
  FrameArgs<T> args{};
  args.frames = t.phase_factors.size(0);
  args.planes = c.size(0);
  args.area = args.planes > 0 ? c.numel() / args.planes : 0;
  args.orientations = c.size(1);
  args.rule = rule;
  args.coefficients = read<Cplx<T>>(c);
  args.phase_step = t.phase_step.has_value() ? read<T>(*t.phase_step) : nullptr;
  args.amplitude_step = t.amplitude_step.has_value() ? read<T>(*t.amplitude_step) : nullptr;
  args.phase_factors = read<T>(t.phase_factors);
  args.amplitude_factors = read<T>(t.amplitude_factors);
  args.factor_stride = t.phase_factors.size(1) == 1 ? 0 : 1;
  return args;
}

template <typename Run>
Tensor extrapolate_with(FrameTensors t, int64_t rule, int64_t form, const Run& run) {
  const Rule r = check_rule("extrapolate", rule);
  check_frames("extrapolate", t);
  if (form < 0 || form > 2)
    fail("extrapolate", "form must be 0 (real), 1 (both quadratures) or 2 (pairs), got ", form);
  Shape shape = shape_of(t.coefficients);
  if (form == static_cast<int>(Form::kPairs)) shape[1] = pairs_of(shape[1]);
  shape.insert(shape.begin(), t.phase_factors.size(0));
  Tensor out =
      new_tensor(t.coefficients, shape, form != 0 ? complex_type(t.float64) : real_type(t.float64));
  const auto launch = [&](auto zero) {
    using T = decltype(zero);
    FrameArgs<T> args = frame_args<T>(t, r);
    args.form = static_cast<Form>(form);
    args.frames_out = write<T>(out);
    run(args, out);
  };
  launch_for(t.float64, out.numel(), launch);
  return out;
}

template <typename Run>
std::tuple<Tensor, Tensor, Tensor> extrapolate_backward_with(Tensor grad, FrameTensors t,
                                                             int64_t rule, const Run& run) {
  const char* op = "extrapolate_backward";
  const Rule r = check_rule(op, rule);
  check_frames(op, t);
  const bool both = is_complex(grad.scalar_type());
  check_type(op, "grad", grad, both ? complex_type(t.float64) : real_type(t.float64));
  check_same_device(op, "grad", grad, "coefficients", t.coefficients);
  const Shape one = shape_of(t.coefficients);
  Shape all = one;
  all.insert(all.begin(), t.phase_factors.size(0));
  check_shape(op, "grad", grad, all);
  grad = packed(grad);
  // A step that was not given has no gradient: an empty tensor stands for it.
  const Shape none = {0};
  Tensor grad_c = new_tensor(t.coefficients, one, t.coefficients.scalar_type());
  Tensor grad_p = new_tensor(t.coefficients, t.phase_step ? one : none, real_type(t.float64));
  Tensor grad_a = new_tensor(t.coefficients, t.amplitude_step ? one : none, real_type(t.float64));
  const auto launch = [&](auto zero) {
    using T = decltype(zero);
    FrameArgs<T> args = frame_args<T>(t, r);
    args.frame_parts = both ? 2 : 1;
    args.grad_frames = read<T>(grad);
    args.grad_coefficients = write<Cplx<T>>(grad_c);
    args.grad_phase_step = write<T>(grad_p);
    args.grad_amplitude_step = write<T>(grad_a);
    run(args, grad_c);
  };
  launch_for(t.float64, grad_c.numel(), launch);
  return {grad_c, grad_p, grad_a};
}

}  // namespace steerlens
