// The arguments of morph_planes: N planes and their gradients, the filters of the analysis and of the
// synthesis (whose adjoint analyses the gradient), and the options of step and extrapolate.
// step_planes and move_planes are its halves: the first without frames, the second without gradients.
#pragma once

#include "../kernel_args/morph.h"
#include "planes.h"
#include "step.h"

namespace steerlens {

struct MorphInputs {
  Tensor images, gradients, phase_factors, amplitude_factors;
  std::vector<Tensor> analysis, synthesis;  // filters
};

struct MorphPlanes {
  MorphInputs in;
  MorphArgs args;
  Tensor frames;  // result
};

inline void check_morph_inputs(const char* op, const PlaneLimits& limits, MorphInputs& in) {
  check_type(op, "images", in.images, ScalarType::Float);
  check_rank(op, "images", in.images, 3, "[N, H, W]");
  check_type(op, "gradients", in.gradients, ScalarType::Float);
  check_same_device(op, "gradients", in.gradients, "images", in.images);
  check_shape(op, "gradients", in.gradients, shape_of(in.images));
  check_factors(op, "phase_factors", in.phase_factors, "images", in.images, false);
  check_factors(op, "amplitude_factors", in.amplitude_factors, "images", in.images, false);
  check_shape(op, "amplitude_factors", in.amplitude_factors, shape_of(in.phase_factors));
  if (in.synthesis.empty() || in.analysis.size() != in.synthesis.size() + 1)
    fail(op, "analysis must have one filter more than synthesis, which must not be empty, got ",
         in.analysis.size(), " and ", in.synthesis.size());
  for (size_t i = 0; i < in.synthesis.size(); ++i)
    check_shape(op, {"analysis", i}, in.analysis[i], shape_of(in.synthesis[i]));
  const int64_t H = in.images.size(1), W = in.images.size(2);
  check_side(op, limits, "height of images", H);
  check_side(op, limits, "width of images", W);
  check_shape(op, {"analysis", in.synthesis.size()}, in.analysis.back(), {1, H, W});
  in.images = as_contiguous(in.images);
  in.gradients = as_contiguous(in.gradients);
}

// Fills the groups of the image's and the gradient's analysis and of the synthesis.
inline void make_morph_groups(const char* op, const PlaneLimits& limits, MorphInputs& in,
                              int64_t i_power, bool complex_bands, MorphArgs& args) {
  const int64_t N = in.images.size(0), H = in.images.size(1), W = in.images.size(2);
  const size_t count = in.synthesis.size();
  const std::vector<int64_t> forms(count, complex_bands),
      inverse_i_powers(count, (4 - i_power) % 4);
  std::vector<int64_t> i_powers(count, i_power);
  std::vector<int64_t> analysis_forms(count, static_cast<int64_t>(Form::kComplex));
  const auto groups = [&](std::vector<Tensor>& filters, const GroupSpec& spec) {
    return make_plane_groups(op, limits, filters, spec, {H, W, "images", in.images}, false);
  };
  args.gradient = groups(in.synthesis, {i_powers, forms});
  args.synthesis = {N, H, W, groups(in.synthesis, {inverse_i_powers, forms})};
  i_powers.push_back(0);  // the residual
  analysis_forms.push_back(static_cast<int64_t>(Form::kReal));
  args.analysis = {N, H, W, groups(in.analysis, {i_powers, analysis_forms})};
}

struct MorphOptions {
  int64_t i_power, edit, rule;
  bool complex_bands;
  double eps, floor, low, high;
};

inline MorphPlanes prepare_morph_planes(const PlaneLimits& limits, MorphInputs in,
                                        const MorphOptions& options,
                                        const char* op = "morph_planes") {
  check_morph_inputs(op, limits, in);
  if (options.edit < 0 || options.edit > 2)
    fail(op, "edit must be 0 (phase), 1 (amplitude) or 2 (joint), got ", options.edit);
  check_i_power(op, "i_power", options.i_power);
  MorphArgs args{};
  make_morph_groups(op, limits, in, options.i_power, options.complex_bands, args);
  args.edit = static_cast<Edit>(options.edit);
  args.rule = check_rule(op, options.rule);
  args.eps = static_cast<float>(options.eps);
  args.floor = static_cast<float>(options.floor);
  args.low = static_cast<float>(options.low);
  args.high = static_cast<float>(options.high);
  args.frames = in.phase_factors.size(0);
  args.images = const_data<float>(in.images);
  args.gradients = const_data<float>(in.gradients);
  args.phase_factors = const_data<float>(in.phase_factors);
  args.amplitude_factors = const_data<float>(in.amplitude_factors);
  args.factor_stride = in.phase_factors.size(1) == 1 ? 0 : 1;
  const PlaneArgs& planes = args.analysis;
  Tensor frames =
      new_tensor(in.images, {args.frames, planes.count, planes.H, planes.W}, ScalarType::Float);
  args.out = mutable_data<float>(frames);
  return {in, args, frames};
}

// Without frames; the caller allocates the results.
inline MorphPlanes prepare_step_planes(const PlaneLimits& limits, const Tensor& images,
                                       const Tensor& gradients, const std::vector<Tensor>& analysis,
                                       const std::vector<Tensor>& synthesis,
                                       const MorphOptions& options) {
  const char* op = "step_planes";
  check_type(op, "images", images, ScalarType::Float);
  const Tensor factors = new_tensor(images, {0, 1}, ScalarType::Float);
  return prepare_morph_planes(limits, {images, gradients, factors, factors, analysis, synthesis},
                              options, op);
}

// Gradients are not read; of the analysis, only the shapes.
inline MorphPlanes prepare_move_planes(const PlaneLimits& limits, const MorphInputs& in,
                                       const MorphOptions& options) {
  return prepare_morph_planes(limits, in, options, "move_planes");
}

// Checks coefficients from step_planes, and makes the kernels read them.
inline void set_coefficients(Tensor& coefficients, const PlaneLimits& limits, MorphPlanes& p) {
  const char* op = "move_planes";
  MorphArgs& args = p.args;
  const int64_t simd_width = limits.simd_width;
  check_same_device(op, "coefficients", coefficients, "images", p.in.images);
  check_type(op, "coefficients", coefficients, ScalarType::Float);
  check_rank(op, "coefficients", coefficients, 2, "[N, floats]");
  check_shape(op, "coefficients", coefficients,
              {args.analysis.count, args.coefficient_vectors(simd_width) * simd_width});
  coefficients = as_contiguous(coefficients);
  args.coefficients = mutable_data<float>(coefficients);
  const size_t alignment = simd_width * sizeof(float);
  if (reinterpret_cast<uintptr_t>(args.coefficients) % alignment)
    fail(op, "coefficients must be aligned to ", alignment, " bytes");
}

}  // namespace steerlens
