// extrapolate and extrapolate_backward on the CPU: blocks of coefficients in parallel.
#include "../prepare/extrapolate.h"
#include "kernels/extrapolate.h"
#include "parallel.h"

namespace steerlens {
namespace {

template <typename T>
int64_t blocks_of_planes(const FrameArgs<T>& args) {
  return args.planes * blocks_of(args.area, kBlockSize);
}

template <typename T>
void write_all_frames(const FrameArgs<T>& args) {
  if (args.form == Form::kPairs) {
    // The bands of a plane have args.area coefficients together. A block has kPairBlockSize coefficients of each of two
    // bands: kBlockSize in all.
    const int64_t per_pair = blocks_of(args.area / args.orientations, kPairBlockSize);
    parallel_rows(args.planes * pairs_per_plane(args) * per_pair, kBlockSize * args.frames,
                  [&](int64_t begin, int64_t end) { write_pairs(args, begin, end); });
    return;
  }
  parallel_rows(blocks_of_planes(args), kBlockSize * args.frames,
                [&](int64_t begin, int64_t end) { write_frames(args, begin, end); });
}

template <typename T>
void sum_all_frames(const FrameArgs<T>& args) {
  parallel_rows(blocks_of_planes(args), kBlockSize * args.frames,
                [&](int64_t begin, int64_t end) { sum_frames(args, begin, end); });
}

Tensor extrapolate(Tensor coefficients, std::optional<Tensor> phase_step,
                   std::optional<Tensor> amplitude_step, Tensor phase_factors,
                   Tensor amplitude_factors, int64_t rule, int64_t form) {
  auto p = prepare_extrapolate(
      {coefficients, phase_factors, amplitude_factors, phase_step, amplitude_step}, rule, form);
  run_kernel(p, [](const auto& args) { write_all_frames(args); });
  return p.frames;
}

std::tuple<Tensor, Tensor, Tensor> extrapolate_backward(Tensor grad, Tensor coefficients,
                                                        std::optional<Tensor> phase_step,
                                                        std::optional<Tensor> amplitude_step,
                                                        Tensor phase_factors,
                                                        Tensor amplitude_factors, int64_t rule) {
  auto p = prepare_extrapolate_backward(
      grad, {coefficients, phase_factors, amplitude_factors, phase_step, amplitude_step}, rule);
  run_kernel(p, [](const auto& args) { sum_all_frames(args); });
  return {p.grad_coefficients, p.grad_phase_step, p.grad_amplitude_step};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CPU, m) {
  m.impl("extrapolate", TORCH_BOX(&extrapolate));
  m.impl("extrapolate_backward", TORCH_BOX(&extrapolate_backward));
}

}  // namespace steerlens
