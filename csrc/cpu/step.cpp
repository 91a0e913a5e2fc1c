// step and step_backward on the CPU: one plane per task, first its largest amplitude, then its step.
#include "../args/step.h"

#include "../math/polar.h"
#include "clones.h"
#include "parallel.h"

namespace steerlens {
namespace {

// Coefficients below this amplitude do not move.
template <typename T>
SL_FN T plane_threshold(const StepArgs<T>& args, int64_t plane) {
  const Cplx<T>* __restrict__ c = args.coefficients + plane * args.area;
  constexpr int kLanes = 16;  // independent maxima: one chain of comparisons would not vectorise
  T lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= args.area; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane)
      lanes[lane] = larger_amplitude(amplitude_of(c[i + lane]), lanes[lane]);
  T largest = T(0);
  for (; i < args.area; ++i) largest = larger_amplitude(amplitude_of(c[i]), largest);
  for (int lane = 0; lane < kLanes; ++lane) largest = larger_amplitude(lanes[lane], largest);
  return step_threshold(args.floor, largest);
}

template <int kParts, Rule kRule, typename T>
SL_FN void step_plane(const StepArgs<T>& args, int64_t plane) {
  const T threshold = plane_threshold(args, plane);
  const int64_t first = plane * args.area;
  const Cplx<T>* __restrict__ c = args.coefficients + first;
  const T* __restrict__ gradient = args.gradient + kParts * first;
  T* __restrict__ phase = args.phase_step + first;
  T* __restrict__ amplitude = args.amplitude_step + first;
  for (int64_t i = 0; i < args.area; ++i) {
    const Cplx<T> g = {gradient[kParts * i],
                       kParts == 2 ? gradient[kParts * i + kParts - 1] : T(0)};
    const PolarPair<T> s = step_above(c[i], g, args.eps, kRule, threshold);
    phase[i] = s.phase;
    amplitude[i] = s.amplitude;
  }
}

template <typename T>
SL_FN void step_planes_body(const StepArgs<T>& args, int64_t begin, int64_t end) {
  for (int64_t plane = begin; plane < end; ++plane) {
    if (args.gradient_parts == 1)
      args.rule == Rule::kComplex ? step_plane<1, Rule::kComplex>(args, plane)
                                  : step_plane<1, Rule::kPolar>(args, plane);
    else
      args.rule == Rule::kComplex ? step_plane<2, Rule::kComplex>(args, plane)
                                  : step_plane<2, Rule::kPolar>(args, plane);
  }
}
STEERLENS_CLONE_FOR_DTYPES(step_planes, StepArgs)

template <typename T>
SL_FN void step_backward_planes_body(const StepArgs<T>& args, int64_t begin, int64_t end) {
  for (int64_t plane = begin; plane < end; ++plane) {
    const T threshold = plane_threshold(args, plane);
    for (int64_t i = plane * args.area; i < (plane + 1) * args.area; ++i) {
      const StepGrad<T> g =
          step_above_grad(args.coefficients[i], gradient_at(args, i), args.eps, args.rule,
                          threshold, args.grad_phase_step[i], args.grad_amplitude_step[i]);
      args.grad_coefficients[i].re = g.c.re;  // by parts: whole structs do not vectorise
      args.grad_coefficients[i].im = g.c.im;
      args.grad_gradient[args.gradient_parts * i] = g.gradient.re;
      if (args.gradient_parts == 2) args.grad_gradient[2 * i + 1] = g.gradient.im;
    }
  }
}
STEERLENS_CLONE_FOR_DTYPES(step_backward_planes, StepArgs)

std::tuple<Tensor, Tensor> step(Tensor coefficients, Tensor gradient, double eps, int64_t rule,
                                double floor) {
  const auto run = [](const auto& args, const Tensor&) {
    parallel_rows(args.planes, args.area,
                  [&](int64_t begin, int64_t end) { step_planes(args, begin, end); });
  };
  return step_with(coefficients, gradient, eps, rule, floor, run);
}

std::tuple<Tensor, Tensor> step_backward(Tensor grad_phase_step, Tensor grad_amplitude_step,
                                         Tensor coefficients, Tensor gradient, double eps,
                                         int64_t rule, double floor) {
  const auto run = [](const auto& args, const Tensor&) {
    parallel_rows(args.planes, args.area,
                  [&](int64_t begin, int64_t end) { step_backward_planes(args, begin, end); });
  };
  return step_backward_with(grad_phase_step, grad_amplitude_step, coefficients, gradient, eps, rule,
                            floor, run);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CPU, m) {
  m.impl("step", TORCH_BOX(&step));
  m.impl("step_backward", TORCH_BOX(&step_backward));
}

}  // namespace steerlens
