// Arguments of the kernels of step and step_backward.
#pragma once

#include "../math/polar.h"

namespace steerlens {

// With the pyramid's option synthesis="real", the synthesis ignores the imaginary parts of bands, so the gradient is
// real. With synthesis="adjoint" it is complex. `gradient_parts` is 1 or 2.
template <typename T>
struct StepArgs {
  int64_t bands, area;  // a band is one orientation of one scale of an image plane
  int gradient_parts;
  T eps;    // the factor of the gradient
  T floor;  // coefficients below floor * (the largest amplitude of their band) do not move
  Rule rule;
  const Cplx<T>* coefficients;
  const T* gradient;
  T *phase_step, *amplitude_step;                  // written by step
  const T *grad_phase_step, *grad_amplitude_step;  // read by step_backward
  Cplx<T>* grad_coefficients;                      // written by step_backward
  T* grad_gradient;                                // written by step_backward
};

}  // namespace steerlens
