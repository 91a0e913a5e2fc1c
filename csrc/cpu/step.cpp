// step and step_backward on the CPU: one plane per task, first its largest amplitude, then its step.
#include "../args/step.h"

#include "../math/polar.h"
#include "blocks.h"
#include "clones.h"
#include "parallel.h"

namespace steerlens {
namespace {

constexpr int64_t kBlock = 256;

// The largest value(c) of a plane.
template <typename T, typename Value>
SL_FN T largest_of(const Cplx<T>* __restrict__ c, int64_t area, const Value& value) {
  constexpr int kLanes = 16;  // independent maxima: one chain of comparisons would not vectorise
  T lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= area; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane)
      lanes[lane] = larger_amplitude(value(c[i + lane]), lanes[lane]);
  T largest = T(0);
  for (; i < area; ++i) largest = larger_amplitude(value(c[i]), largest);
  for (int lane = 0; lane < kLanes; ++lane) largest = larger_amplitude(lanes[lane], largest);
  return largest;
}

template <typename T>
struct Square {
  SL_FN T operator()(Cplx<T> c) const { return std::fma(c.re, c.re, c.im * c.im); }
};
template <typename T>
struct Amplitude {
  SL_FN T operator()(Cplx<T> c) const { return amplitude_of(c); }
};

// Coefficients below this amplitude do not move.
template <typename T>
SL_FN T plane_threshold(const StepArgs<T>& args, int64_t plane) {
  const Cplx<T>* c = args.coefficients + plane * args.area;
  // One root is enough, unless squares are out of range.
  const T square = largest_of(c, args.area, Square<T>{});
  const bool in_range = square > T(1e-20) && square < T(1e30);
  return step_threshold(args.floor,
                        in_range ? std::sqrt(square) : largest_of(c, args.area, Amplitude<T>{}));
}

// One plane, in blocks; `Gradient` is real or complex as G is.
template <Rule kRule, typename Gradient, typename T>
SL_FN void step_plane(const StepArgs<T>& args, int64_t plane) {
  const T threshold = plane_threshold(args, plane), eps = args.eps;
  Outlet<T, kBlock> phases(args.planes * args.area), amplitudes(args.planes * args.area);
  for (int64_t offset = 0; offset < args.area; offset += kBlock) {
    const int64_t size = args.area - offset < kBlock ? args.area - offset : kBlock;
    const int64_t first = plane * args.area + offset;
    const Cplx<T>* __restrict__ c = args.coefficients + first;
    const Gradient* __restrict__ gradient =
        reinterpret_cast<const Gradient*>(args.gradient) + first;
    T* __restrict__ phase = phases.open(args.phase_step + first);
    T* __restrict__ amplitude = amplitudes.open(args.amplitude_step + first);
    for (int64_t i = 0; i < size; ++i) {
      const PolarPair<T> s = step_above(parts(c[i]), parts(gradient[i]), eps, kRule, threshold);
      phase[i] = s.phase;
      amplitude[i] = s.amplitude;
    }
    phases.close(args.phase_step + first, size);
    amplitudes.close(args.amplitude_step + first, size);
  }
}

// `eps` is a local: as a member it might be what the loop writes, and the loop would not vectorise.
template <Rule kRule, typename Gradient, typename T>
SL_FN void step_backward_plane(const StepArgs<T>& args, int64_t plane) {
  const T threshold = plane_threshold(args, plane), eps = args.eps;
  Outlet<Cplx<T>, kBlock> grads_c(args.planes * args.area);
  Outlet<Gradient, kBlock> grads_g(args.planes * args.area);
  for (int64_t offset = 0; offset < args.area; offset += kBlock) {
    const int64_t size = args.area - offset < kBlock ? args.area - offset : kBlock;
    const int64_t first = plane * args.area + offset;
    const Cplx<T>* __restrict__ c = args.coefficients + first;
    const Gradient* __restrict__ gradient =
        reinterpret_cast<const Gradient*>(args.gradient) + first;
    const T* __restrict__ phase = args.grad_phase_step + first;
    const T* __restrict__ amplitude = args.grad_amplitude_step + first;
    Gradient* const to_g = reinterpret_cast<Gradient*>(args.grad_gradient) + first;
    Cplx<T>* __restrict__ grad_c = grads_c.open(args.grad_coefficients + first);
    Gradient* __restrict__ grad_g = grads_g.open(to_g);
    for (int64_t i = 0; i < size; ++i) {
      const StepGrad<T> g = step_above_grad(parts(c[i]), parts(gradient[i]), eps, kRule, threshold,
                                            phase[i], amplitude[i]);
      store(g.c, grad_c[i]);
      store(g.gradient, grad_g[i]);
    }
    grads_c.close(args.grad_coefficients + first, size);
    grads_g.close(to_g, size);
  }
}

// Rule and gradient are chosen outside every loop.
#define STEERLENS_FOR_PLANES(body)                                             \
  for (int64_t plane = begin; plane < end; ++plane) {                          \
    if (args.gradient_parts == 1)                                              \
      args.rule == Rule::kComplex ? body<Rule::kComplex, T>(args, plane)       \
                                  : body<Rule::kPolar, T>(args, plane);        \
    else                                                                       \
      args.rule == Rule::kComplex ? body<Rule::kComplex, Cplx<T>>(args, plane) \
                                  : body<Rule::kPolar, Cplx<T>>(args, plane);  \
  }

template <typename T>
SL_FN void step_planes_body(const StepArgs<T>& args, int64_t begin, int64_t end){
    STEERLENS_FOR_PLANES(step_plane)} STEERLENS_CLONE_FOR_DTYPES(step_planes, StepArgs)

    template <typename T>
    SL_FN void step_backward_planes_body(const StepArgs<T>& args, int64_t begin, int64_t end){
        STEERLENS_FOR_PLANES(step_backward_plane)} STEERLENS_CLONE_FOR_DTYPES(step_backward_planes,
                                                                              StepArgs)

        std::tuple<Tensor, Tensor> step(Tensor coefficients, Tensor gradient, double eps,
                                        int64_t rule, double floor) {
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
