// A block of coefficients stays in the first-level cache while all frames are computed from it.
#include "extrapolate.h"

#include "by_parts.h"
#include "streaming_writer.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// A block of coefficients, with an array for each member, so that loops vectorise.
template <typename T>
struct Block {
  T base_re[kBlockSize], base_im[kBlockSize];
  T amplitude[kBlockSize], phase_step[kBlockSize], amplitude_step[kBlockSize];

  // Only the members that an Extrapolation E reads are stored and loaded.
  template <typename E>
  SL_FN void store(int64_t i, const Coefficient<T>& p) {
    base_re[i] = p.base.re;
    base_im[i] = p.base.im;
    if constexpr (E::kNeedsAmplitude) amplitude[i] = p.amplitude;
    if constexpr (E::kMovesPhase) phase_step[i] = p.phase_step;
    if constexpr (E::kMovesAmplitude) amplitude_step[i] = p.amplitude_step;
  }
  template <typename E>
  SL_FN Coefficient<T> load(int64_t i) const {
    Coefficient<T> p = {};
    p.base = {base_re[i], base_im[i]};
    if constexpr (E::kNeedsAmplitude) p.amplitude = amplitude[i];
    if constexpr (E::kMovesPhase) p.phase_step = phase_step[i];
    if constexpr (E::kMovesAmplitude) p.amplitude_step = amplitude_step[i];
    return p;
  }
};

template <typename E, typename T>
SL_FN void read_block(const FrameArgs<T>& args, int64_t first, int64_t size, Block<T>& block) {
  const Cplx<T>* __restrict c = args.coefficients + first;
  for (int64_t i = 0; i < size; ++i) {
    const T phase_step = args.phase_step ? args.phase_step[first + i] : T(0);
    const T amplitude_step = args.amplitude_step ? args.amplitude_step[first + i] : T(0);
    block.template store<E>(i, E::load(c[i], phase_step, amplitude_step));
  }
}

template <typename T>
struct WriteFrames {
  const FrameArgs<T>& args;
  int64_t begin, end;  // blocks

  template <typename E>
  SL_FN void run() const {
    const int64_t blocks_per_plane = blocks_of(args.area, kBlockSize);
    Block<T> block;
    for (int64_t b = begin; b < end; ++b) {
      const int64_t plane = b / blocks_per_plane, offset = (b % blocks_per_plane) * kBlockSize;
      const int64_t size = block_size(args.area, offset);
      read_block<E>(args, plane * args.area + offset, size, block);
      for (int64_t f = 0; f < args.frames; ++f) write_frame<E>(block, f, plane, offset, size);
    }
  }

  template <typename E>
  SL_FN void write_frame(const Block<T>& block, int64_t f, int64_t plane, int64_t offset,
                         int64_t size) const {
    const int64_t at = factor_index(args, f, plane);
    const T phase_factor = args.phase_factors[at], amplitude_factor = args.amplitude_factors[at];
    const int64_t first = (f * args.planes + plane) * args.area + offset;
    if (args.form == Form::kReal) {
      T* __restrict out = args.frames_out + first;
      for (int64_t i = 0; i < size; ++i)
        out[i] = E::real(block.template load<E>(i), phase_factor, amplitude_factor);
    } else {
      Cplx<T>* __restrict out = reinterpret_cast<Cplx<T>*>(args.frames_out) + first;
      for (int64_t i = 0; i < size; ++i)
        out[i] = E::value(block.template load<E>(i), phase_factor, amplitude_factor);
    }
  }
};

// Like WriteFrames, for pairs: blocks of two orientations become the real and imaginary parts of one output.
template <typename T>
struct WritePairs {
  const FrameArgs<T>& args;
  int64_t begin, end;  // blocks

  template <typename E>
  SL_FN void run() const {
    const int64_t band_size = args.area / args.orientations;
    const int64_t blocks_per_pair = blocks_of(band_size, kPairBlockSize);
    const int64_t pairs = args.planes * pairs_per_plane(args);
    Block<T> first, second;
    for (int64_t b = begin; b < end; ++b) {
      const OrientationPair pair = pair_at(args, b / blocks_per_pair);
      const int64_t offset = b % blocks_per_pair * kPairBlockSize;
      const int64_t size = block_size(band_size, offset, kPairBlockSize);
      read_block<E>(args, pair.first + offset, size, first);
      if (pair.has_second) read_block<E>(args, pair.first + band_size + offset, size, second);
      for (int64_t f = 0; f < args.frames; ++f) {
        const int64_t at = factor_index(args, f, pair.plane);
        const int64_t to = (f * pairs + b / blocks_per_pair) * band_size + offset;
        if (pair.has_second)
          write_two<E>(first, second, at, size, to);
        else
          write_one<E>(first, at, size, to);
      }
    }
  }

  template <typename E>
  SL_FN void write_one(const Block<T>& first, int64_t at, int64_t size, int64_t to) const {
    const T phase_factor = args.phase_factors[at], amplitude_factor = args.amplitude_factors[at];
    Cplx<T>* __restrict out = reinterpret_cast<Cplx<T>*>(args.frames_out) + to;
    for (int64_t i = 0; i < size; ++i)
      out[i] = {E::real(first.template load<E>(i), phase_factor, amplitude_factor), T(0)};
  }

  template <typename E>
  SL_FN void write_two(const Block<T>& first, const Block<T>& second, int64_t at, int64_t size,
                       int64_t to) const {
    const T phase_factor = args.phase_factors[at], amplitude_factor = args.amplitude_factors[at];
    Cplx<T>* __restrict out = reinterpret_cast<Cplx<T>*>(args.frames_out) + to;
    for (int64_t i = 0; i < size; ++i)
      out[i] = {E::real(first.template load<E>(i), phase_factor, amplitude_factor),
                E::real(second.template load<E>(i), phase_factor, amplitude_factor)};
  }
};

}  // namespace

template <typename T>
void write_pairs(const FrameArgs<T>& args, int64_t begin, int64_t end) {
  for_extrapolation(args, WritePairs<T>{args, begin, end});
}
STEERLENS_INSTANTIATE_KERNEL(write_pairs, FrameArgs)

template <typename T>
void write_frames(const FrameArgs<T>& args, int64_t begin, int64_t end) {
  for_extrapolation(args, WriteFrames<T>{args, begin, end});
}
STEERLENS_INSTANTIATE_KERNEL(write_frames, FrameArgs)

namespace {

// The gradients of a block, summed over frames, with an array for each member.
template <typename T>
struct Sums {
  alignas(64) T re[kBlockSize], im[kBlockSize], amplitude[kBlockSize], phase[kBlockSize];
  alignas(64) T phase_step[kBlockSize], amplitude_step[kBlockSize];

  template <typename E, typename Grad>
  SL_FN void store(int64_t i, const Grad& sum) {
    if constexpr (E::kNeedsAmplitude) {
      amplitude[i] = sum.amplitude;
      phase[i] = sum.phase;
    } else {
      re[i] = sum.c.re;
      im[i] = sum.c.im;
    }
    if constexpr (E::kMovesPhase) phase_step[i] = sum.phase_step;
    if constexpr (E::kMovesAmplitude) amplitude_step[i] = sum.amplitude_step;
  }
  template <typename E>
  SL_FN typename E::template Grad<T> load(int64_t i) const {
    typename E::template Grad<T> sum;
    if constexpr (E::kNeedsAmplitude) {
      sum.amplitude = amplitude[i];
      sum.phase = phase[i];
    } else {
      sum.c = {re[i], im[i]};
    }
    if constexpr (E::kMovesPhase) sum.phase_step = phase_step[i];
    if constexpr (E::kMovesAmplitude) sum.amplitude_step = amplitude_step[i];
    return sum;
  }
};

template <typename T>
struct SumFrames {
  const FrameArgs<T>& args;
  int64_t begin, end;  // blocks

  template <typename E>
  SL_FN void run() const {
    const int64_t blocks_per_plane = blocks_of(args.area, kBlockSize);
    const int64_t count = args.planes * args.area;
    Block<T> block;
    Sums<T> sums;
    StreamingWriter<Cplx<T>, kBlockSize> grad_c(count);
    const bool streamed = exceeds_caches<T>(count);
    for (int64_t b = begin; b < end; ++b) {
      const int64_t plane = b / blocks_per_plane, offset = (b % blocks_per_plane) * kBlockSize;
      const int64_t size = block_size(args.area, offset);
      const int64_t first = plane * args.area + offset;
      read_block<E>(args, first, size, block);
      for (int64_t i = 0; i < size; ++i) sums.template store<E>(i, typename E::template Grad<T>{});
      for (int64_t f = 0; f < args.frames; ++f)
        args.frame_parts == 2 ? add_frame<E, Cplx<T>>(block, sums, f, plane, first, size)
                              : add_frame<E, T>(block, sums, f, plane, first, size);
      finish<E>(sums, first, size, grad_c.block(args.grad_coefficients + first));
      grad_c.flush(args.grad_coefficients + first, size);
      if constexpr (E::kMovesPhase)
        copy_block(args.grad_phase_step + first, sums.phase_step, size, streamed);
      if constexpr (E::kMovesAmplitude)
        copy_block(args.grad_amplitude_step + first, sums.amplitude_step, size, streamed);
    }
    if (streamed) end_stream();
  }

  template <typename E, typename FrameGrad>
  SL_FN void add_frame(const Block<T>& block, Sums<T>& sums, int64_t f, int64_t plane,
                       int64_t first, int64_t size) const {
    const int64_t at = factor_index(args, f, plane);
    const T phase_factor = args.phase_factors[at], amplitude_factor = args.amplitude_factors[at];
    const FrameGrad* __restrict grad =
        reinterpret_cast<const FrameGrad*>(args.grad_frames) + f * args.planes * args.area + first;
    for (int64_t i = 0; i < size; ++i) {
      auto sum = sums.template load<E>(i);
      E::add_frame(sum, block.template load<E>(i), load_parts(grad[i]), phase_factor,
                   amplitude_factor);
      sums.template store<E>(i, sum);
    }
  }

  template <typename E>
  SL_FN void finish(const Sums<T>& sums, int64_t first, int64_t size,
                    Cplx<T>* __restrict out) const {
    const Cplx<T>* __restrict c = args.coefficients + first;
    for (int64_t i = 0; i < size; ++i) {
      Coefficient<T> p = {};  // E::finish reads only p.c
      p.c = load_parts(c[i]);
      store_parts(E::finish(sums.template load<E>(i), p), out[i]);
    }
  }
};

}  // namespace

template <typename T>
void sum_frames(const FrameArgs<T>& args, int64_t begin, int64_t end) {
  for_extrapolation(args, SumFrames<T>{args, begin, end});
}
STEERLENS_INSTANTIATE_KERNEL(sum_frames, FrameArgs)

}  // namespace steerlens::STEERLENS_CPU_LEVEL
