#include "polar.h"

#include "../../math/polar.h"
#include "by_parts.h"
#include "streaming_writer.h"

namespace steerlens::STEERLENS_CPU_LEVEL {

template <typename T>
void split_blocks(const PolarArgs<T>& args, int64_t begin, int64_t end) {
  StreamingWriter<T, kBlockSize> amplitudes(args.count), phases(args.count);
  for (int64_t first = begin * kBlockSize; first < end * kBlockSize; first += kBlockSize) {
    const int64_t size = block_size(args.count, first);
    const Cplx<T>* __restrict c = args.coefficients + first;
    T* __restrict amplitude = amplitudes.block(args.out_amplitude + first);
    T* __restrict phase = phases.block(args.out_phase + first);
    for (int64_t i = 0; i < size; ++i) {
      amplitude[i] = amplitude_of(load_parts(c[i]));
      phase[i] = angle_of(c[i].im, c[i].re);
    }
    amplitudes.flush(args.out_amplitude + first, size);
    phases.flush(args.out_phase + first, size);
  }
}
STEERLENS_INSTANTIATE_KERNEL(split_blocks, PolarArgs)

template <typename T>
void split_backward_blocks(const PolarArgs<T>& args, int64_t begin, int64_t end) {
  StreamingWriter<Cplx<T>, kBlockSize> writer(args.count);
  for (int64_t first = begin * kBlockSize; first < end * kBlockSize; first += kBlockSize) {
    const int64_t size = block_size(args.count, first);
    const Cplx<T>* __restrict c = args.coefficients + first;
    const T *grad_amplitude = args.amplitude + first, *grad_phase = args.phase + first;
    Cplx<T>* __restrict out = writer.block(args.out_coefficients + first);
    for (int64_t i = 0; i < size; ++i)
      store_parts(polar_split_grad(load_parts(c[i]), grad_amplitude[i], grad_phase[i]), out[i]);
    writer.flush(args.out_coefficients + first, size);
  }
}
STEERLENS_INSTANTIATE_KERNEL(split_backward_blocks, PolarArgs)

template <typename T>
void join_blocks(const PolarArgs<T>& args, int64_t begin, int64_t end) {
  StreamingWriter<Cplx<T>, kBlockSize> writer(args.count);
  for (int64_t first = begin * kBlockSize; first < end * kBlockSize; first += kBlockSize) {
    const int64_t size = block_size(args.count, first);
    const T *amplitude = args.amplitude + first, *phase = args.phase + first;
    Cplx<T>* __restrict out = writer.block(args.out_coefficients + first);
    for (int64_t i = 0; i < size; ++i)
      store_parts(polar_join_value(amplitude[i], phase[i]), out[i]);
    writer.flush(args.out_coefficients + first, size);
  }
}
STEERLENS_INSTANTIATE_KERNEL(join_blocks, PolarArgs)

template <typename T>
void join_backward_blocks(const PolarArgs<T>& args, int64_t begin, int64_t end) {
  StreamingWriter<T, kBlockSize> amplitudes(args.count), phases(args.count);
  for (int64_t first = begin * kBlockSize; first < end * kBlockSize; first += kBlockSize) {
    const int64_t size = block_size(args.count, first);
    const Cplx<T>* __restrict grad = args.coefficients + first;
    const T *amplitude = args.amplitude + first, *phase = args.phase + first;
    T* __restrict grad_amplitude = amplitudes.block(args.out_amplitude + first);
    T* __restrict grad_phase = phases.block(args.out_phase + first);
    for (int64_t i = 0; i < size; ++i) {
      const PolarPair<T> g = polar_join_grad(load_parts(grad[i]), amplitude[i], phase[i]);
      grad_amplitude[i] = g.amplitude;
      grad_phase[i] = g.phase;
    }
    amplitudes.flush(args.out_amplitude + first, size);
    phases.flush(args.out_phase + first, size);
  }
}
STEERLENS_INSTANTIATE_KERNEL(join_backward_blocks, PolarArgs)

}  // namespace steerlens::STEERLENS_CPU_LEVEL
