// The formulas of step and extrapolate for advance_planes. Coefficients are given by coordinates: the changes of their
// phase and log amplitude since the source (math/anchor.h).
#pragma once

#include "../../kernel_args/advance.h"
#include "../../math/anchor.h"
#include "coefficients.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// See Layout in motion.h. Fields 0 and 1 are the source's coefficient. The phase and its step exist if phases move, the
// amplitude and its step if amplitudes move.
template <typename E>
struct Layout<AnchoredMove<E>> {
  static constexpr int kPhase = 2, kPhaseStep = 3;
  static constexpr int kAmplitude = kPhase + 2 * E::kMovesPhase, kAmplitudeStep = kAmplitude + 1;
  static constexpr int kFields = kAmplitude + 2 * E::kMovesAmplitude;

  // The coefficient without its steps.
  template <typename T>
  SL_FN static AnchoredCoefficient<T> load_coordinates(const T* f) {
    AnchoredCoefficient<T> p = {};
    p.source = {f[0], f[kSimdWidth<T>]};
    if constexpr (E::kMovesPhase) p.phase = f[kPhase * kSimdWidth<T>];
    if constexpr (E::kMovesAmplitude) p.amplitude = f[kAmplitude * kSimdWidth<T>];
    return p;
  }
  template <typename T>
  SL_FN static AnchoredCoefficient<T> load(const T* f) {
    AnchoredCoefficient<T> p = load_coordinates(f);
    if constexpr (E::kMovesPhase) p.phase_step = f[kPhaseStep * kSimdWidth<T>];
    if constexpr (E::kMovesAmplitude) p.amplitude_step = f[kAmplitudeStep * kSimdWidth<T>];
    return p;
  }
  template <typename T>
  SL_FN static Cplx<T> coefficient(const T* f) {
    return AnchoredMove<E>::value(load_coordinates(f), T(0), T(0));
  }
  template <typename T>
  SL_FN static void store_step(T* f, Cplx<T>, PolarPair<T> step) {
    AnchoredCoefficient<T> p = load_coordinates(f);
    AnchoredMove<E>::set_steps(p, step);
    if constexpr (E::kMovesPhase) f[kPhaseStep * kSimdWidth<T>] = p.phase_step;
    if constexpr (E::kMovesAmplitude) f[kAmplitudeStep * kSimdWidth<T>] = p.amplitude_step;
  }
};

// The coordinates of a column block. Its rows are `stride` apart. `width` is the number of columns of the band from the
// block's first column on.
template <typename T>
struct CoordinateBlock {
  T *phase, *log_amplitude;  // a coordinate that does not move is null
  int64_t stride, width;
};

// Functions that are compiled for each Extrapolation E.
template <typename T>
struct AnchorKernels {
  // Sets the phases and amplitudes of the coefficients from the coordinates.
  void (*read)(const CoefficientSpan<T>& c, const CoordinateBlock<T>&);
  // Writes the coordinates after a step by the factors.
  void (*write)(const CoefficientSpan<T>& c, Factors<T>, const CoordinateBlock<T>&);
};

template <typename E, typename T>
void read_coordinates(const CoefficientSpan<T>& c, const CoordinateBlock<T>& from) {
  using L = Layout<AnchoredMove<E>>;
  for (int64_t y = 0; y < c.count; ++y) {
    Vec<T>* f = reinterpret_cast<Vec<T>*>(c.at(y));
    if constexpr (E::kMovesPhase) f[L::kPhase] = load_vec(from.phase + y * from.stride, from.width);
    if constexpr (E::kMovesAmplitude) {
      f[L::kAmplitude] = load_vec(from.log_amplitude + y * from.stride, from.width);
      T* amplitude = c.at(y) + L::kAmplitude * kSimdWidth<T>;
      for (int64_t lane = 0; lane < kSimdWidth<T>; ++lane)
        amplitude[lane] = AnchoredMove<E>::amplitude_at(amplitude[lane]);
    }
  }
}

template <typename E, typename T>
void write_coordinates(const CoefficientSpan<T>& c, Factors<T> factors,
                       const CoordinateBlock<T>& to) {
  for (int64_t y = 0; y < c.count; ++y) {
    alignas(64) T phase[kSimdWidth<T>] = {}, log_amplitude[kSimdWidth<T>] = {};
    if constexpr (E::kMovesAmplitude) {
      const Vec<T> before = load_vec(to.log_amplitude + y * to.stride, to.width);
      std::memcpy(log_amplitude, &before, sizeof(before));
    }
    SL_NO_UNROLL
    for (int64_t lane = 0; lane < kSimdWidth<T>; ++lane) {
      const auto p = Layout<AnchoredMove<E>>::load(c.at(y) + lane);
      if constexpr (E::kMovesPhase) phase[lane] = AnchoredMove<E>::moved_phase(p, factors.phase);
      if constexpr (E::kMovesAmplitude)
        log_amplitude[lane] =
            AnchoredMove<E>::moved_log_amplitude(p, log_amplitude[lane], factors.amplitude);
    }
    if constexpr (E::kMovesPhase) store_vec(to.phase + y * to.stride, load_vec(phase), to.width);
    if constexpr (E::kMovesAmplitude)
      store_vec(to.log_amplitude + y * to.stride, load_vec(log_amplitude), to.width);
  }
}

template <typename T>
struct MakeAnchorKernels {
  MotionKernels<T>& motion;
  AnchorKernels<T>& anchor;
  template <typename E>
  void run() const {
    MakeMotionKernels<T>{motion}.template run<AnchoredMove<E>>();
    anchor = {read_coordinates<E, T>, write_coordinates<E, T>};
  }
};

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
