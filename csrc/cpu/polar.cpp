// polar_split, polar_join and their backwards on the CPU.
#include "../math/polar.h"

#include "../args/polar.h"
#include "by_parts.h"
#include "clones.h"
#include "parallel.h"
#include "streaming_writer.h"

namespace steerlens {
namespace {

constexpr int64_t kBlock = 256;

template <typename T>
SL_FN int64_t block_size(const PolarArgs<T>& args, int64_t first) {
  return args.count - first < kBlock ? args.count - first : kBlock;
}

template <typename T>
SL_FN void split_body(const PolarArgs<T>& args, int64_t begin, int64_t end) {
  StreamingWriter<T, kBlock> amplitudes(args.count), phases(args.count);
  for (int64_t first = begin * kBlock; first < end * kBlock; first += kBlock) {
    const int64_t size = block_size(args, first);
    const Cplx<T>* __restrict__ c = args.coefficients + first;
    T* __restrict__ amplitude = amplitudes.block(args.out_amplitude + first);
    T* __restrict__ phase = phases.block(args.out_phase + first);
    for (int64_t i = 0; i < size; ++i) {
      amplitude[i] = amplitude_of(load_parts(c[i]));
      phase[i] = angle_of(c[i].im, c[i].re);
    }
    amplitudes.flush(args.out_amplitude + first, size);
    phases.flush(args.out_phase + first, size);
  }
}
STEERLENS_CLONE_FOR_DTYPES(split, PolarArgs)

template <typename T>
SL_FN void split_backward_body(const PolarArgs<T>& args, int64_t begin, int64_t end) {
  StreamingWriter<Cplx<T>, kBlock> writer(args.count);
  for (int64_t first = begin * kBlock; first < end * kBlock; first += kBlock) {
    const int64_t size = block_size(args, first);
    const Cplx<T>* __restrict__ c = args.coefficients + first;
    const T *amplitude = args.amplitude + first, *phase = args.phase + first;
    Cplx<T>* __restrict__ out = writer.block(args.out_coefficients + first);
    for (int64_t i = 0; i < size; ++i)
      store_parts(polar_split_grad(load_parts(c[i]), amplitude[i], phase[i]), out[i]);
    writer.flush(args.out_coefficients + first, size);
  }
}
STEERLENS_CLONE_FOR_DTYPES(split_backward, PolarArgs)

template <typename T>
SL_FN void join_body(const PolarArgs<T>& args, int64_t begin, int64_t end) {
  StreamingWriter<Cplx<T>, kBlock> writer(args.count);
  for (int64_t first = begin * kBlock; first < end * kBlock; first += kBlock) {
    const int64_t size = block_size(args, first);
    const T *amplitude = args.amplitude + first, *phase = args.phase + first;
    Cplx<T>* __restrict__ out = writer.block(args.out_coefficients + first);
    for (int64_t i = 0; i < size; ++i)
      store_parts(polar_join_value(amplitude[i], phase[i]), out[i]);
    writer.flush(args.out_coefficients + first, size);
  }
}
STEERLENS_CLONE_FOR_DTYPES(join, PolarArgs)

template <typename T>
SL_FN void join_backward_body(const PolarArgs<T>& args, int64_t begin, int64_t end) {
  StreamingWriter<T, kBlock> amplitudes(args.count), phases(args.count);
  for (int64_t first = begin * kBlock; first < end * kBlock; first += kBlock) {
    const int64_t size = block_size(args, first);
    const Cplx<T>* __restrict__ grad = args.coefficients + first;
    const T *amplitude = args.amplitude + first, *phase = args.phase + first;
    T* __restrict__ grad_amplitude = amplitudes.block(args.out_amplitude + first);
    T* __restrict__ grad_phase = phases.block(args.out_phase + first);
    for (int64_t i = 0; i < size; ++i) {
      const PolarPair<T> g = polar_join_grad(load_parts(grad[i]), amplitude[i], phase[i]);
      grad_amplitude[i] = g.amplitude;
      grad_phase[i] = g.phase;
    }
    amplitudes.flush(args.out_amplitude + first, size);
    phases.flush(args.out_phase + first, size);
  }
}
STEERLENS_CLONE_FOR_DTYPES(join_backward, PolarArgs)

// Calls body(begin, end) for ranges of the blocks, in parallel.
template <typename T, typename Body>
void parallel_blocks(const PolarArgs<T>& args, const Body& body) {
  parallel_rows((args.count + kBlock - 1) / kBlock, kBlock, body);
}

std::tuple<Tensor, Tensor> polar_split(Tensor coefficients) {
  auto p = prepare_polar_split(coefficients);
  run_kernel(p, [](const auto& args) {
    parallel_blocks(args, [&](int64_t begin, int64_t end) { split(args, begin, end); });
  });
  return {p.amplitude, p.phase};
}

Tensor polar_split_backward(Tensor coefficients, Tensor grad_amplitude, Tensor grad_phase) {
  auto p = prepare_polar_split_backward(coefficients, grad_amplitude, grad_phase);
  run_kernel(p, [](const auto& args) {
    parallel_blocks(args, [&](int64_t begin, int64_t end) { split_backward(args, begin, end); });
  });
  return p.grad_coefficients;
}

Tensor polar_join(Tensor amplitude, Tensor phase) {
  auto p = prepare_polar_join(amplitude, phase);
  run_kernel(p, [](const auto& args) {
    parallel_blocks(args, [&](int64_t begin, int64_t end) { join(args, begin, end); });
  });
  return p.coefficients;
}

std::tuple<Tensor, Tensor> polar_join_backward(Tensor grad, Tensor amplitude, Tensor phase) {
  auto p = prepare_polar_join_backward(grad, amplitude, phase);
  run_kernel(p, [](const auto& args) {
    parallel_blocks(args, [&](int64_t begin, int64_t end) { join_backward(args, begin, end); });
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
