// Arguments of the kernels of extrapolate and extrapolate_backward. Here, a *plane* is one scale of an image plane: the
// coefficients of all orientations.
#pragma once

#include "../math/extrapolate.h"

namespace steerlens {

// How bands are stored: kReal, the real parts; kComplex, complex numbers; kPairs, the real parts of two orientations
// as one complex number ([..., ceil(K/2), h, w]), so that one FFT transforms both; kWidened, the real parts as complex
// numbers with imaginary parts of 0 (only results of split_planes on CPUs).
enum class Form : int { kReal = 0, kComplex = 1, kPairs = 2, kWidened = 3 };

template <typename T>
struct FrameArgs {
  int64_t frames;
  // A plane has K = `orientations` bands and `area` = K h w coefficients.
  int64_t planes, area, orientations;
  Rule rule;
  Form form;        // form of frames_out
  int frame_parts;  // numbers T per value of grad_frames: 2 if complex, else 1
  const Cplx<T>* coefficients;
  const T *phase_step, *amplitude_step;  // null if phases, or amplitudes, do not move
  const T *phase_factors, *amplitude_factors;
  int64_t factor_stride;  // along planes: 0 if factors are [F, 1], 1 if they are [F, planes]
  T* frames_out;          // written by extrapolate
  const T* grad_frames;   // read by extrapolate_backward
  Cplx<T>* grad_coefficients;
  T *grad_phase_step, *grad_amplitude_step;
};

template <typename T>
SL_FN int64_t factor_index(const FrameArgs<T>& args, int64_t frame, int64_t plane) {
  return args.factor_stride ? frame * args.planes + plane : frame;
}

// Two orientations of a plane that are stored as a pair. Pairs are numbered consecutively over all planes.
struct OrientationPair {
  int64_t plane;
  int64_t first;  // the index of its first coefficient
  int64_t band;   // number of coefficients of one orientation
  bool has_second;
};

template <typename T>
SL_FN int64_t pairs_per_plane(const FrameArgs<T>& args) {
  return pairs_of(args.orientations);
}

template <typename T>
SL_FN OrientationPair pair_at(const FrameArgs<T>& args, int64_t pair) {
  const int64_t plane = pair / pairs_per_plane(args), k = pair % pairs_per_plane(args) * 2;
  const int64_t band = args.area / args.orientations;
  return {plane, plane * args.area + k * band, band, k + 1 < args.orientations};
}

// Calls body.template run<E>(), where E is the Extrapolation that moves phases, amplitudes, both or neither, by this
// rule (which matters only if amplitudes move). So the choice is made once, outside all loops.
template <typename Body>
SL_INLINE void for_edit(bool phase, bool amplitude, Rule rule, const Body& body) {
  if (!amplitude) {  // both rules change phases in the same way
    if (phase)
      body.template run<Extrapolation<true, false, Rule::kComplex>>();
    else
      body.template run<Extrapolation<false, false, Rule::kComplex>>();
  } else if (rule == Rule::kComplex) {
    if (phase)
      body.template run<Extrapolation<true, true, Rule::kComplex>>();
    else
      body.template run<Extrapolation<false, true, Rule::kComplex>>();
  } else {
    if (phase)
      body.template run<Extrapolation<true, true, Rule::kPolar>>();
    else
      body.template run<Extrapolation<false, true, Rule::kPolar>>();
  }
}

template <typename T, typename Body>
SL_INLINE void for_extrapolation(const FrameArgs<T>& args, const Body& body) {
  for_edit(args.phase_step != nullptr, args.amplitude_step != nullptr, args.rule, body);
}

}  // namespace steerlens
