// extrapolate and extrapolate_backward on CUDA: a thread reads its coefficients and their steps once and
// loops over all frames.
#include "../prepare/extrapolate.h"

#include "../math/extrapolate.h"
#include "launch.h"

namespace steerlens {
namespace {

// The factors of a plane's frames. Each lane of a warp reads those of one frame, so that the warp reads each factor
// once. If every lane read all factors, these reads would be a tenth of the traffic.
template <typename T>
class PlaneFactors {
 public:
  __device__ PlaneFactors(const FrameArgs<T>& args, int64_t plane) : args_(args), plane_(plane) {}

  T phase, amplitude;  // factors of the frame that was last passed to next()

  // Frames must come one after the other. All lanes of a warp must call this.
  __device__ __forceinline__ void next(int64_t frame) {
    const int lane = static_cast<int>(frame % kWarp);
    if (lane == 0) {
      const int64_t lane_frame = frame + threadIdx.x % kWarp;
      const int64_t index =
          factor_index(args_, lane_frame < args_.frames ? lane_frame : frame, plane_);
      phases_ = load_one(args_.phase_factors + index);
      amplitudes_ = load_one(args_.amplitude_factors + index);
    }
    phase = __shfl_sync(0xffffffffu, phases_, lane);
    amplitude = __shfl_sync(0xffffffffu, amplitudes_, lane);
  }

 private:
  const FrameArgs<T>& args_;
  int64_t plane_;
  T phases_, amplitudes_;  // factors of one frame in each lane
};

// E is the Extrapolation (math/extrapolate.h) for the coordinates that move.
template <typename T, typename E>
struct FrameOp {
  static constexpr int kBlocks = kMinBlocks;
  FrameArgs<T> args;

  // for_each_kernel (launch.h) calls apply(plane_data(n), pieces) for every plane n.
  __device__ int64_t plane_data(int64_t n) const { return n; }

  // Where a step is null, its coordinate does not move, and E does not use it.
  template <typename P>
  __device__ void read(P pieces, Coefficient<T> (&p)[P::kCount], int64_t shift = 0) const {
    const auto c = load(args.coefficients + shift, pieces);
    Pack<T, P::kCount> phase{}, amplitude{};
    if (args.phase_step) phase = load(args.phase_step + shift, pieces);
    if (args.amplitude_step) amplitude = load(args.amplitude_step + shift, pieces);
#pragma unroll
    for (int j = 0; j < P::kCount; ++j) p[j] = E::load(c.v[j], phase.v[j], amplitude.v[j]);
  }
};

template <typename T, typename E>
struct WriteFrames : FrameOp<T, E> {
  static constexpr int kPerThread = sizeof(T) == 4 ? 4 : 1;  // more would not fit in the registers

  template <typename P>
  __device__ void apply(int64_t n, P pieces) const {
    constexpr int kCount = P::kCount;
    const FrameArgs<T>& args = this->args;
    Coefficient<T> p[kCount];
    this->read(pieces, p);
    PlaneFactors<T> factors(args, n);
#pragma unroll 1
    for (int64_t f = 0; f < args.frames; ++f) {
      factors.next(f);
      const int64_t offset = f * args.planes * args.area;
      if (args.form == Form::kReal)
        write_real(offset, pieces, p, factors.phase, factors.amplitude);
      else
        write_complex(offset, pieces, p, factors.phase, factors.amplitude);
    }
  }

  template <typename P>
  __device__ void write_real(int64_t offset, P pieces, const Coefficient<T> (&p)[P::kCount],
                             T phase_factor, T amplitude_factor) const {
    Pack<T, P::kCount> out;
#pragma unroll
    for (int j = 0; j < P::kCount; ++j) out.v[j] = E::real(p[j], phase_factor, amplitude_factor);
    store(this->args.frames_out + offset, pieces, out);
  }

  template <typename P>
  __device__ void write_complex(int64_t offset, P pieces, const Coefficient<T> (&p)[P::kCount],
                                T phase_factor, T amplitude_factor) const {
    Pack<Cplx<T>, P::kCount> out;
#pragma unroll
    for (int j = 0; j < P::kCount; ++j) out.v[j] = E::value(p[j], phase_factor, amplitude_factor);
    store(reinterpret_cast<Cplx<T>*>(this->args.frames_out) + offset, pieces, out);
  }
};

// Like WriteFrames, for the real parts of two orientations as one complex number.
template <typename T, typename E>
struct WritePairs : FrameOp<T, E> {
  static constexpr int kPerThread = 8 / sizeof(T);  // pairs, of two coefficients each

  template <typename P>
  __device__ void apply(int64_t number, P pieces) const {  // `number` of the pair
    constexpr int kCount = P::kCount;
    const FrameArgs<T>& args = this->args;
    const OrientationPair pair = pair_at(args, number);
    const int64_t pairs = args.planes * pairs_per_plane(args);
    // Value i of the pairs comes from coefficient i + shift and, if has_second, i + shift + pair.band.
    const int64_t shift = pair.first - number * pair.band;
    Coefficient<T> first[kCount], second[kCount]{};
    this->read(pieces, first, shift);
    if (pair.has_second) this->read(pieces, second, shift + pair.band);
    PlaneFactors<T> factors(args, pair.plane);
#pragma unroll 1
    for (int64_t f = 0; f < args.frames; ++f) {
      factors.next(f);
      Pack<Cplx<T>, kCount> out;
#pragma unroll
      for (int j = 0; j < kCount; ++j)
        out.v[j] = {E::real(first[j], factors.phase, factors.amplitude),
                    pair.has_second ? E::real(second[j], factors.phase, factors.amplitude) : T(0)};
      store(reinterpret_cast<Cplx<T>*>(args.frames_out) + f * pairs * pair.band, pieces, out);
    }
  }
};

template <typename T, typename E>
struct SumFrames : FrameOp<T, E> {
  // For float32, half of WriteFrames' number, since the sums need registers, too.
  static constexpr int kPerThread = 8 / sizeof(T);
  // For float64, 64 registers do not hold the sums of all coordinates.
  static constexpr int kBlocks =
      sizeof(T) == 8 && E::kMovesPhase && E::kNeedsAmplitude ? 3 : kMinBlocks;

  template <typename P>
  __device__ void apply(int64_t n, P pieces) const {
    constexpr int kCount = P::kCount;
    const FrameArgs<T>& args = this->args;
    Coefficient<T> p[kCount];
    this->read(pieces, p);
    typename E::template Grad<T> sum[kCount];
    PlaneFactors<T> factors(args, n);
#pragma unroll 2
    for (int64_t f = 0; f < args.frames; ++f) {
      factors.next(f);
      const auto grad = frame_grad(f * args.planes * args.area, pieces);
#pragma unroll
      for (int j = 0; j < kCount; ++j)
        E::add_frame(sum[j], p[j], grad.v[j], factors.phase, factors.amplitude);
    }
    write_sums(pieces, p, sum);
  }

  template <typename P>
  __device__ Pack<Cplx<T>, P::kCount> frame_grad(int64_t offset, P pieces) const {
    if (this->args.frame_parts == 2)
      return load(reinterpret_cast<const Cplx<T>*>(this->args.grad_frames) + offset, pieces);
    const auto real = load(this->args.grad_frames + offset, pieces);
    Pack<Cplx<T>, P::kCount> pack;
#pragma unroll
    for (int j = 0; j < P::kCount; ++j) pack.v[j] = {real.v[j], T(0)};
    return pack;
  }

  template <typename P, typename Sum>
  __device__ void write_sums(P pieces, const Coefficient<T> (&p)[P::kCount],
                             const Sum (&sum)[P::kCount]) const {
    constexpr int kCount = P::kCount;
    Pack<Cplx<T>, kCount> c;
    Pack<T, kCount> phase, amplitude;
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      c.v[j] = E::finish(sum[j], p[j]);
      phase.v[j] = sum[j].phase_step;
      amplitude.v[j] = sum[j].amplitude_step;
    }
    store(this->args.grad_coefficients, pieces, c);
    if (this->args.phase_step) store(this->args.grad_phase_step, pieces, phase);
    if (this->args.amplitude_step) store(this->args.grad_amplitude_step, pieces, amplitude);
  }
};

template <typename T, template <typename, typename> class Op>
struct Launch {
  const FrameArgs<T>& args;
  const Tensor& on;

  template <typename E>
  void run() const {
    const bool paired = args.form == Form::kPairs;
    const int64_t area = paired ? args.area / args.orientations : args.area;
    const bool wide = aligned({args.coefficients, args.phase_step, args.amplitude_step,
                               args.frames_out, args.grad_frames, args.grad_coefficients,
                               args.grad_phase_step, args.grad_amplitude_step});
    const int64_t planes = paired ? args.planes * pairs_per_plane(args) : args.planes;
    for_each_coefficient<kWidePiece<T>, Op<T, E>::kBlocks>(Op<T, E>{{args}}, planes, area, wide,
                                                           Launcher(on));
  }
};

// Launches Op = WriteFrames, WritePairs or SumFrames for the coordinates that move.
template <template <typename, typename> class Op, typename T>
void launch(const FrameArgs<T>& args, const Tensor& on) {
  for_extrapolation(args, Launch<T, Op>{args, on});
}

Tensor extrapolate(Tensor coefficients, std::optional<Tensor> phase_step,
                   std::optional<Tensor> amplitude_step, Tensor phase_factors,
                   Tensor amplitude_factors, int64_t rule, int64_t form) {
  auto p = prepare_extrapolate(
      {coefficients, phase_factors, amplitude_factors, phase_step, amplitude_step}, rule, form);
  run_kernel(p, [&](const auto& args) {
    if (args.form == Form::kPairs)
      launch<WritePairs>(args, p.frames);
    else
      launch<WriteFrames>(args, p.frames);
  });
  return p.frames;
}

std::tuple<Tensor, Tensor, Tensor> extrapolate_backward(Tensor grad, Tensor coefficients,
                                                        std::optional<Tensor> phase_step,
                                                        std::optional<Tensor> amplitude_step,
                                                        Tensor phase_factors,
                                                        Tensor amplitude_factors, int64_t rule) {
  auto p = prepare_extrapolate_backward(
      grad, {coefficients, phase_factors, amplitude_factors, phase_step, amplitude_step}, rule);
  run_kernel(p, [&](const auto& args) { launch<SumFrames>(args, p.grad_coefficients); });
  return {p.grad_coefficients, p.grad_phase_step, p.grad_amplitude_step};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CUDA, m) {
  m.impl("extrapolate", TORCH_BOX(&extrapolate));
  m.impl("extrapolate_backward", TORCH_BOX(&extrapolate_backward));
}

}  // namespace steerlens
