// polar_split, polar_join and their backwards on the CPU.
#include "../math/polar.h"

#include "../args/polar.h"
#include "blocks.h"
#include "clones.h"
#include "parallel.h"

namespace steerlens {
namespace {

constexpr int64_t kBlock = 256;

template <typename T>
SL_FN int64_t block_size(const PolarArgs<T>& args, int64_t first) {
  return args.count - first < kBlock ? args.count - first : kBlock;
}

template <typename T>
SL_FN void split_body(const PolarArgs<T>& args, int64_t begin, int64_t end) {
  Outlet<T, kBlock> amplitudes(args.count), phases(args.count);
  for (int64_t first = begin * kBlock; first < end * kBlock; first += kBlock) {
    const int64_t size = block_size(args, first);
    const Cplx<T>* __restrict__ c = args.coefficients + first;
    T* __restrict__ amplitude = amplitudes.open(args.out_amplitude + first);
    T* __restrict__ phase = phases.open(args.out_phase + first);
    for (int64_t i = 0; i < size; ++i) {
      amplitude[i] = amplitude_of(parts(c[i]));
      phase[i] = angle_of(c[i].im, c[i].re);
    }
    amplitudes.close(args.out_amplitude + first, size);
    phases.close(args.out_phase + first, size);
  }
}
STEERLENS_CLONE_FOR_DTYPES(split, PolarArgs)

template <typename T>
SL_FN void split_backward_body(const PolarArgs<T>& args, int64_t begin, int64_t end) {
  Outlet<Cplx<T>, kBlock> outlet(args.count);
  for (int64_t first = begin * kBlock; first < end * kBlock; first += kBlock) {
    const int64_t size = block_size(args, first);
    const Cplx<T>* __restrict__ c = args.coefficients + first;
    const T *amplitude = args.amplitude + first, *phase = args.phase + first;
    Cplx<T>* __restrict__ out = outlet.open(args.out_coefficients + first);
    for (int64_t i = 0; i < size; ++i)
      store(polar_split_grad(parts(c[i]), amplitude[i], phase[i]), out[i]);
    outlet.close(args.out_coefficients + first, size);
  }
}
STEERLENS_CLONE_FOR_DTYPES(split_backward, PolarArgs)

template <typename T>
SL_FN void join_body(const PolarArgs<T>& args, int64_t begin, int64_t end) {
  Outlet<Cplx<T>, kBlock> outlet(args.count);
  for (int64_t first = begin * kBlock; first < end * kBlock; first += kBlock) {
    const int64_t size = block_size(args, first);
    const T *amplitude = args.amplitude + first, *phase = args.phase + first;
    Cplx<T>* __restrict__ out = outlet.open(args.out_coefficients + first);
    for (int64_t i = 0; i < size; ++i) store(polar_join_value(amplitude[i], phase[i]), out[i]);
    outlet.close(args.out_coefficients + first, size);
  }
}
STEERLENS_CLONE_FOR_DTYPES(join, PolarArgs)

template <typename T>
SL_FN void join_backward_body(const PolarArgs<T>& args, int64_t begin, int64_t end) {
  Outlet<T, kBlock> amplitudes(args.count), phases(args.count);
  for (int64_t first = begin * kBlock; first < end * kBlock; first += kBlock) {
    const int64_t size = block_size(args, first);
    const Cplx<T>* __restrict__ grad = args.coefficients + first;
    const T *amplitude = args.amplitude + first, *phase = args.phase + first;
    T* __restrict__ grad_amplitude = amplitudes.open(args.out_amplitude + first);
    T* __restrict__ grad_phase = phases.open(args.out_phase + first);
    for (int64_t i = 0; i < size; ++i) {
      const PolarPair<T> g = polar_join_grad(parts(grad[i]), amplitude[i], phase[i]);
      grad_amplitude[i] = g.amplitude;
      grad_phase[i] = g.phase;
    }
    amplitudes.close(args.out_amplitude + first, size);
    phases.close(args.out_phase + first, size);
  }
}
STEERLENS_CLONE_FOR_DTYPES(join_backward, PolarArgs)

// A runner that calls `loop` on ranges of blocks in parallel.
#define STEERLENS_RUN(loop)                                                     \
  [](const auto& args, const Tensor&) {                                         \
    parallel_rows((args.count + kBlock - 1) / kBlock, kBlock,                   \
                  [&](int64_t begin, int64_t end) { loop(args, begin, end); }); \
  }

std::tuple<Tensor, Tensor> polar_split(Tensor coefficients) {
  return polar_split_with(coefficients, STEERLENS_RUN(split));
}

Tensor polar_split_backward(Tensor coefficients, Tensor grad_amplitude, Tensor grad_phase) {
  return polar_split_backward_with(coefficients, grad_amplitude, grad_phase,
                                   STEERLENS_RUN(split_backward));
}

Tensor polar_join(Tensor amplitude, Tensor phase) {
  return polar_join_with(amplitude, phase, STEERLENS_RUN(join));
}

std::tuple<Tensor, Tensor> polar_join_backward(Tensor grad, Tensor amplitude, Tensor phase) {
  return polar_join_backward_with(grad, amplitude, phase, STEERLENS_RUN(join_backward));
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CPU, m) {
  m.impl("polar_split", TORCH_BOX(&polar_split));
  m.impl("polar_split_backward", TORCH_BOX(&polar_split_backward));
  m.impl("polar_join", TORCH_BOX(&polar_join));
  m.impl("polar_join_backward", TORCH_BOX(&polar_join_backward));
}

}  // namespace steerlens
