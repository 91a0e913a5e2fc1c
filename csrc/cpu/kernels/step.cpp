// Each band is read twice: to find its largest amplitude, and to compute its step.
#include "step.h"

#include "blocks.h"
#include "by_parts.h"
#include "streaming_writer.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// Returns the maximum of value(c) over a band.
template <typename T, typename Value>
SL_FN T largest_of(const Cplx<T>* __restrict c, int64_t area, const Value& value) {
  // Several independent maxima, so that the loop is vectorised: with a single one, each comparison would depend on the
  // previous one.
  constexpr int kMaxima = 16;
  T maxima[kMaxima] = {};
  int64_t i = 0;
  for (; i + kMaxima <= area; i += kMaxima)
    for (int j = 0; j < kMaxima; ++j) maxima[j] = larger(value(c[i + j]), maxima[j]);
  T largest = T(0);
  for (; i < area; ++i) largest = larger(value(c[i]), largest);
  for (int j = 0; j < kMaxima; ++j) largest = larger(maxima[j], largest);
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
SL_FN T band_threshold(const StepArgs<T>& args, int64_t band) {
  const Cplx<T>* c = args.coefficients + band * args.area;
  // Finds the largest square and takes one root, unless squares overflow or underflow.
  const T square = largest_of(c, args.area, Square<T>{});
  const bool in_range = square > T(1e-20) && square < T(1e30);
  return step_threshold(args.floor,
                        in_range ? std::sqrt(square) : largest_of(c, args.area, Amplitude<T>{}));
}

// The step of one band, in blocks. `eps` is copied to a local variable, so that the loop is vectorised: the compiler
// must assume that stores in the loop may change a member.
struct StepBand {
  template <Rule kRule, typename Gradient, typename T>
  SL_FN static void run(const StepArgs<T>& args, int64_t band) {
    const T threshold = band_threshold(args, band), eps = args.eps;
    const int64_t count = args.bands * args.area;
    StreamingWriter<T, kBlockSize> phases(count), amplitudes(count);
    for (int64_t offset = 0; offset < args.area; offset += kBlockSize) {
      const int64_t size = block_size(args.area, offset);
      const int64_t first = band * args.area + offset;
      const Cplx<T>* __restrict c = args.coefficients + first;
      const Gradient* __restrict gradient =
          reinterpret_cast<const Gradient*>(args.gradient) + first;
      T* __restrict phase = phases.block(args.phase_step + first);
      T* __restrict amplitude = amplitudes.block(args.amplitude_step + first);
      for (int64_t i = 0; i < size; ++i) {
        const PolarPair<T> s =
            step_above(load_parts(c[i]), load_parts(gradient[i]), eps, kRule, threshold);
        phase[i] = s.phase;
        amplitude[i] = s.amplitude;
      }
      phases.flush(args.phase_step + first, size);
      amplitudes.flush(args.amplitude_step + first, size);
    }
  }
};

struct StepBackwardBand {
  template <Rule kRule, typename Gradient, typename T>
  SL_FN static void run(const StepArgs<T>& args, int64_t band) {
    const T threshold = band_threshold(args, band), eps = args.eps;
    const int64_t count = args.bands * args.area;
    StreamingWriter<Cplx<T>, kBlockSize> grads_c(count);
    StreamingWriter<Gradient, kBlockSize> grads_g(count);
    for (int64_t offset = 0; offset < args.area; offset += kBlockSize) {
      const int64_t size = block_size(args.area, offset);
      const int64_t first = band * args.area + offset;
      const Cplx<T>* __restrict c = args.coefficients + first;
      const Gradient* __restrict gradient =
          reinterpret_cast<const Gradient*>(args.gradient) + first;
      const T* __restrict grad_phase = args.grad_phase_step + first;
      const T* __restrict grad_amplitude = args.grad_amplitude_step + first;
      Gradient* const to_g = reinterpret_cast<Gradient*>(args.grad_gradient) + first;
      Cplx<T>* __restrict grad_c = grads_c.block(args.grad_coefficients + first);
      Gradient* __restrict grad_g = grads_g.block(to_g);
      for (int64_t i = 0; i < size; ++i) {
        const StepGrad<T> g = step_above_grad(load_parts(c[i]), load_parts(gradient[i]), eps, kRule,
                                              threshold, grad_phase[i], grad_amplitude[i]);
        store_parts(g.c, grad_c[i]);
        store_parts(g.gradient, grad_g[i]);
      }
      grads_c.flush(args.grad_coefficients + first, size);
      grads_g.flush(to_g, size);
    }
  }
};

// Calls Band::run for bands [begin, end). The rule and the type of the gradient are chosen outside of the loops over
// coefficients.
template <typename Band, typename T>
SL_FN void for_bands(const StepArgs<T>& args, int64_t begin, int64_t end) {
  const bool real = args.gradient_parts == 1, complex_rule = args.rule == Rule::kComplex;
  for (int64_t band = begin; band < end; ++band) {
    if (real && complex_rule)
      Band::template run<Rule::kComplex, T>(args, band);
    else if (real)
      Band::template run<Rule::kPolar, T>(args, band);
    else if (complex_rule)
      Band::template run<Rule::kComplex, Cplx<T>>(args, band);
    else
      Band::template run<Rule::kPolar, Cplx<T>>(args, band);
  }
}

}  // namespace

template <typename T>
void step_bands(const StepArgs<T>& args, int64_t begin, int64_t end) {
  for_bands<StepBand>(args, begin, end);
}
STEERLENS_INSTANTIATE_KERNEL(step_bands, StepArgs)

template <typename T>
void step_backward_bands(const StepArgs<T>& args, int64_t begin, int64_t end) {
  for_bands<StepBackwardBand>(args, begin, end);
}
STEERLENS_INSTANTIATE_KERNEL(step_backward_bands, StepArgs)

}  // namespace steerlens::STEERLENS_CPU_LEVEL
