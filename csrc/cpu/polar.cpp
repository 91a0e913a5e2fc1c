// polar_split, polar_join and their backwards on the CPU.
#include "../prepare/polar.h"
#include "kernels/polar.h"
#include "parallel.h"

namespace steerlens {
namespace {

// Calls body(begin, end) for ranges of the blocks, in parallel.
template <typename T, typename Body>
void parallel_blocks(const PolarArgs<T>& args, const Body& body) {
  parallel_rows(blocks_of(args.count, kBlockSize), kBlockSize, body);
}

std::tuple<Tensor, Tensor> polar_split(Tensor coefficients) {
  auto p = prepare_polar_split(coefficients);
  run_kernel(p, [](const auto& args) {
    parallel_blocks(args, [&](int64_t begin, int64_t end) { split_blocks(args, begin, end); });
  });
  return {p.amplitude, p.phase};
}

Tensor polar_split_backward(Tensor coefficients, Tensor grad_amplitude, Tensor grad_phase) {
  auto p = prepare_polar_split_backward(coefficients, grad_amplitude, grad_phase);
  run_kernel(p, [](const auto& args) {
    parallel_blocks(args,
                    [&](int64_t begin, int64_t end) { split_backward_blocks(args, begin, end); });
  });
  return p.grad_coefficients;
}

Tensor polar_join(Tensor amplitude, Tensor phase) {
  auto p = prepare_polar_join(amplitude, phase);
  run_kernel(p, [](const auto& args) {
    parallel_blocks(args, [&](int64_t begin, int64_t end) { join_blocks(args, begin, end); });
  });
  return p.coefficients;
}

std::tuple<Tensor, Tensor> polar_join_backward(Tensor grad, Tensor amplitude, Tensor phase) {
  auto p = prepare_polar_join_backward(grad, amplitude, phase);
  run_kernel(p, [](const auto& args) {
    parallel_blocks(args,
                    [&](int64_t begin, int64_t end) { join_backward_blocks(args, begin, end); });
  });
  return {p.grad_amplitude, p.grad_phase};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CPU, m) {
  m.impl("polar_split", TORCH_BOX(&polar_split));
  m.impl("polar_split_backward", TORCH_BOX(&polar_split_backward));
  m.impl("polar_join", TORCH_BOX(&polar_join));
  m.impl("polar_join_backward", TORCH_BOX(&polar_join_backward));
}

}  // namespace steerlens
