// The schemas of all ops. Kernels are registered in cpu/ and cuda/. README.md has a glossary.
//
// Sizes: N planes (images times channels) of H x W, K orientations, bands of h x w coefficients, F frames, B samples
// (images), M distances.
//
// Lists have an item for each *group*: the bands of one scale, or a residual. `coordinates` has one or two tensors per
// group (prepare/advance.h). masks[g] is [K, h, w] (full layout) or [K, h, w/2+1] (half layout) with w = widths[g]. The
// spectra of group g are multiplied by i^n, where i is the imaginary unit and n = i_powers[g] (math/bands.h).
//
// The ops on whole planes (split_planes to advance_planes) take float32, on the CPU also float64. Their filters are
// masks in the full layout.
//
// step_planes to advance_planes, nll_gradient and the L2 search (math/l2_search.h) have CPU kernels only.
//
// The other arguments are described in kernel_args/, for example phase_cap and dtype_max_factors in morph_to_l2.h.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(steerlens_fast, m) {
  m.def("pair(Tensor planes, int run) -> Tensor");
  m.def(
      "split_bands(Tensor spectrum, Tensor[] masks, int[] i_powers, int[] widths, int width,"
      " bool paired)"
      " -> Tensor[]");
  m.def("polar_split(Tensor coefficients) -> (Tensor amplitude, Tensor phase)");
  m.def(
      "polar_split_backward(Tensor coefficients, Tensor grad_amplitude, Tensor grad_phase)"
      " -> Tensor");
  m.def("polar_join(Tensor amplitude, Tensor phase) -> Tensor");
  m.def(
      "polar_join_backward(Tensor grad, Tensor amplitude, Tensor phase)"
      " -> (Tensor grad_amplitude, Tensor grad_phase)");
  m.def(
      "step(Tensor coefficients, Tensor gradient, float eps, int rule, float floor)"
      " -> (Tensor phase_step, Tensor amplitude_step)");
  m.def(
      "step_backward(Tensor grad_phase_step, Tensor grad_amplitude_step, Tensor coefficients,"
      " Tensor gradient, float eps, int rule, float floor)"
      " -> (Tensor grad_coefficients, Tensor grad_gradient)");
  m.def(
      "extrapolate(Tensor coefficients, Tensor? phase_step, Tensor? amplitude_step,"
      " Tensor phase_factors, Tensor amplitude_factors, int rule, int form) -> Tensor");
  m.def(
      "extrapolate_backward(Tensor grad, Tensor coefficients, Tensor? phase_step,"
      " Tensor? amplitude_step, Tensor phase_factors, Tensor amplitude_factors, int rule)"
      " -> (Tensor grad_coefficients, Tensor grad_phase_step, Tensor grad_amplitude_step)");
  m.def(
      "merge_bands(Tensor[] bands, Tensor[] masks, int[] i_powers, int[] widths, int height,"
      " int width, bool whole, bool paired) -> Tensor");
  m.def("unpair(Tensor pairs, int run) -> Tensor");
  m.def(
      "split_planes(Tensor planes, Tensor[] filters, int[] i_powers, int[] forms)"
      " -> Tensor[]");
  m.def(
      "merge_planes(Tensor[] bands, Tensor[] filters, int[] i_powers, int[] forms,"
      " Tensor? residual, int height, int width) -> Tensor");
  m.def(
      "morph_planes(Tensor images, Tensor gradients, Tensor phase_factors,"
      " Tensor amplitude_factors, Tensor[] analysis, Tensor[] synthesis, int i_power,"
      " int edit, int rule, bool complex_bands, float eps, float floor, float low, float high) -> "
      "Tensor");
  m.def(
      "step_planes(Tensor images, Tensor gradients, Tensor[] analysis, Tensor[] synthesis,"
      " int i_power, int edit, int rule, bool complex_bands, float eps, float floor)"
      " -> (Tensor coefficients, Tensor squared_speeds, Tensor phases)");
  m.def(
      "move_planes(Tensor images, Tensor coefficients, Tensor phase_factors,"
      " Tensor amplitude_factors, Tensor[] analysis, Tensor[] synthesis, int i_power,"
      " int edit, int rule, bool complex_bands, float low, float high) -> Tensor");
  m.def(
      "morph_planes_to_l2(Tensor images, Tensor gradients, int planes_per_sample, Tensor? base,"
      " Tensor max_l2, Tensor tolerances, Tensor dtype_max_factors, Tensor shares,"
      " Tensor[] analysis, Tensor[] synthesis, int i_power, int edit, int rule,"
      " bool complex_bands, float eps, float floor, float low, float high, float phase_cap,"
      " float phase_limit, float speed_share, int iterations)"
      " -> (Tensor frames, Tensor factors, Tensor l2, Tensor attained, Tensor out_of_range)");
  m.def(
      "advance_planes(Tensor images, Tensor gradients, Tensor(a!)[] coordinates,"
      " int planes_per_sample, Tensor? base, Tensor source, Tensor position, Tensor? factors,"
      " Tensor? limits, Tensor[] analysis, Tensor[] synthesis, int i_power, int edit, int rule,"
      " bool complex_bands, float eps, float floor, float low, float high, float phase_cap,"
      " float phase_limit, float speed_share, float max_step_ratio, int iterations)"
      " -> (Tensor frames, Tensor step_factors, Tensor l2, Tensor out_of_range)");
  m.def("nll_gradient(Tensor scores, Tensor target) -> Tensor");
  m.def("begin_l2_search(Tensor limits, Tensor source_l2, float epsilon) -> Tensor state");
  m.def("advance_l2_search(Tensor state, Tensor l2) -> Tensor");
}
