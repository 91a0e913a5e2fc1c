// Checks the arguments of the morphs of whole planes, and allocates their results.
//
// morph_planes takes N planes and their gradients, filters of the analysis and of the synthesis, and the options of
// step and extrapolate. step_planes computes only the steps, and move_planes computes frames from these.
// morph_planes_to_l2 searches for the factors. Gradients are analysed by the adjoint of the synthesis.
#pragma once

#include "../kernel_args/morph_to_l2.h"
#include "planes.h"
#include "step.h"

namespace steerlens {

struct MorphInputs {
  Tensor images, gradients, phase_factors, amplitude_factors;
  std::vector<Tensor> analysis, synthesis;  // filters
};

template <typename T>
struct MorphPlanes {
  MorphInputs in;
  MorphArgs<T> args;
  Tensor frames;  // result
};

template <typename T>
void check_morph_inputs(const char* op, const PlaneLimits& limits, MorphInputs& in) {
  check_type(op, "images", in.images, kRealType<T>);
  check_rank(op, "images", in.images, 3, "[N, H, W]");
  check_type(op, "gradients", in.gradients, kRealType<T>);
  check_same_device(op, "gradients", in.gradients, "images", in.images);
  check_shape(op, "gradients", in.gradients, shape_of(in.images));
  check_factors(op, "phase_factors", in.phase_factors, "images", in.images, kFloat64<T>);
  check_factors(op, "amplitude_factors", in.amplitude_factors, "images", in.images, kFloat64<T>);
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

// Sets the groups of `args`: for the analysis of the image, the analysis of the gradient, and the synthesis.
template <typename T>
void make_morph_groups(const char* op, const PlaneLimits& limits, MorphInputs& in, int64_t i_power,
                       bool complex_bands, MorphArgs<T>& args) {
  const int64_t N = in.images.size(0), H = in.images.size(1), W = in.images.size(2);
  const size_t count = in.synthesis.size();
  const std::vector<int64_t> forms(count, complex_bands),
      inverse_i_powers(count, (4 - i_power) % 4);
  std::vector<int64_t> i_powers(count, i_power);
  std::vector<int64_t> analysis_forms(count, static_cast<int64_t>(Form::kComplex));
  const auto groups = [&](std::vector<Tensor>& filters, const GroupSpec& spec) {
    return make_plane_groups<T>(op, limits, filters, spec, {H, W, "images", in.images}, false);
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

template <typename T>
MorphPlanes<T> prepare_morph_planes(const PlaneLimits& limits, MorphInputs in,
                                    const MorphOptions& options, const char* op = "morph_planes") {
  check_morph_inputs<T>(op, limits, in);
  if (options.edit < 0 || options.edit > 2)
    fail(op, "edit must be 0 (phase), 1 (amplitude) or 2 (joint), got ", options.edit);
  check_i_power(op, "i_power", options.i_power);
  MorphArgs<T> args{};
  make_morph_groups(op, limits, in, options.i_power, options.complex_bands, args);
  args.edit = static_cast<Edit>(options.edit);
  args.rule = check_rule(op, options.rule);
  args.eps = static_cast<T>(options.eps);
  args.floor = static_cast<T>(options.floor);
  args.low = static_cast<T>(options.low);
  args.high = static_cast<T>(options.high);
  args.frames = in.phase_factors.size(0);
  args.images = const_data<T>(in.images);
  args.gradients = const_data<T>(in.gradients);
  args.phase_factors = const_data<T>(in.phase_factors);
  args.amplitude_factors = const_data<T>(in.amplitude_factors);
  args.factor_stride = in.phase_factors.size(1) == 1 ? 0 : 1;
  const PlaneArgs<T>& planes = args.analysis;
  Tensor frames =
      new_tensor(in.images, {args.frames, planes.count, planes.H, planes.W}, kRealType<T>);
  args.out = mutable_data<T>(frames);
  return {in, args, frames};
}

// Has no frames. The caller allocates the results of step_planes.
template <typename T>
MorphPlanes<T> prepare_step_planes(const PlaneLimits& limits, const Tensor& images,
                                   const Tensor& gradients, const std::vector<Tensor>& analysis,
                                   const std::vector<Tensor>& synthesis,
                                   const MorphOptions& options) {
  const char* op = "step_planes";
  check_type(op, "images", images, kRealType<T>);
  const Tensor factors = new_tensor(images, {0, 1}, kRealType<T>);
  return prepare_morph_planes<T>(limits, {images, gradients, factors, factors, analysis, synthesis},
                                 options, op);
}

// See kernel_args/morph_to_l2.h for these and the following arguments.
struct L2Options {
  double phase_cap, phase_limit, speed_share;
  int64_t iterations;
};

struct MorphToL2Inputs {
  std::optional<Tensor> base;  // [B * channels, H, W]
  int64_t planes_per_sample;
  Tensor max_l2, tolerances, range_ends, shares;
};

template <typename T>
struct MorphPlanesToL2 {
  MorphPlanes<T> morph;
  MorphToL2Inputs in;
  MorphToL2Args<T> args;
  Tensor speeds, phases;
  Tensor frames, factors, l2, attained, out_of_range;  // results
};

inline int64_t check_samples(const char* op, const Tensor& images, MorphToL2Inputs& in) {
  const int64_t N = images.size(0), per_sample = in.planes_per_sample;
  if (per_sample < 1 || N % per_sample)
    fail(op, "planes_per_sample must divide the number of planes, ", N, ", got ", per_sample);
  return N / per_sample;
}

// Checks the images to which the changes of the planes are added; returns the number of channels of a sample.
template <typename T>
int64_t check_base(const char* op, const Tensor& images, int64_t samples, MorphToL2Inputs& in) {
  if (!in.base) return in.planes_per_sample;
  Tensor& base = *in.base;
  check_type(op, "base", base, kRealType<T>);
  check_same_device(op, "base", base, "images", images);
  check_rank(op, "base", base, 3, "[B * channels, H, W]");
  check_shape(op, "base", base, {base.size(0), images.size(1), images.size(2)});
  const int64_t planes = images.size(0);
  if (planes > 0 ? base.size(0) == 0 || base.size(0) % planes : base.size(0) != 0)
    fail(op, "number of planes of base must be a multiple of that of images, ", planes, ", got ",
         base.size(0));
  base = as_contiguous(base);
  return samples ? base.size(0) / samples : in.planes_per_sample;
}

template <typename T>
void check_l2_limits(const char* op, const Tensor& images, int64_t samples, MorphToL2Inputs& in) {
  const auto check = [&](const char* name, Tensor& t, int64_t rank, const char* layout) {
    check_type(op, name, t, kRealType<T>);
    check_same_device(op, name, t, "images", images);
    check_rank(op, name, t, rank, layout);
    t = as_contiguous(t);
  };
  check("max_l2", in.max_l2, 2, "[M, B]");
  check_shape(op, "max_l2", in.max_l2, {in.max_l2.size(0), samples});
  if (in.max_l2.size(0) == 0) fail(op, "max_l2 must have at least one row, got none");
  check("tolerances", in.tolerances, 2, "[M, B]");
  check_shape(op, "tolerances", in.tolerances, shape_of(in.max_l2));
  check("range_ends", in.range_ends, 1, "[B]");
  check_shape(op, "range_ends", in.range_ends, {samples});
  check("shares", in.shares, 1, "[F - M]");
}

template <typename T>
MorphPlanesToL2<T> prepare_morph_planes_to_l2(const PlaneLimits& limits, MorphInputs morph_in,
                                              MorphToL2Inputs in, const MorphOptions& options,
                                              const L2Options& l2_options,
                                              const char* op = "morph_planes_to_l2") {
  check_type(op, "images", morph_in.images, kRealType<T>);
  morph_in.phase_factors = morph_in.amplitude_factors =
      new_tensor(morph_in.images, {0, 1}, kRealType<T>);
  MorphPlanesToL2<T> p{
      prepare_morph_planes<T>(limits, morph_in, options, op), in, {}, {}, {}, {}, {}, {}, {}, {}};
  const Tensor& images = p.morph.in.images;
  MorphToL2Args<T>& args = p.args;
  args.samples = check_samples(op, images, p.in);
  args.channels = check_base<T>(op, images, args.samples, p.in);
  check_l2_limits<T>(op, images, args.samples, p.in);
  constexpr int64_t kMaxIterations = int64_t{1} << 20;  // the kernels store a distance for each
  if (l2_options.iterations < 0 || l2_options.iterations > kMaxIterations)
    fail(op, "iterations must be from 0 to ", kMaxIterations, ", got ", l2_options.iterations);
  const int64_t B = args.samples, M = p.in.max_l2.size(0), F = M + p.in.shares.size(0);
  const int64_t N = images.size(0), H = images.size(1), W = images.size(2);
  args.morph = p.morph.args;
  args.morph.frames = F;
  args.planes_per_sample = p.in.planes_per_sample;
  args.base = p.in.base ? const_data<T>(*p.in.base) : nullptr;
  args.distances = M;
  args.max_l2 = const_data<T>(p.in.max_l2);
  args.tolerances = const_data<T>(p.in.tolerances);
  args.range_ends = const_data<T>(p.in.range_ends);
  args.shares = const_data<T>(p.in.shares);
  args.phase_cap = static_cast<T>(l2_options.phase_cap);
  args.phase_limit = static_cast<T>(l2_options.phase_limit);
  args.speed_share = static_cast<T>(l2_options.speed_share);
  args.iterations = l2_options.iterations;
  const auto new_result = [&](const Shape& shape, ScalarType type) {
    return new_tensor(images, shape, type);
  };
  const int64_t bands = args.morph.bands();
  p.speeds = new_result({N, bands}, kRealType<T>);
  p.phases = new_result({N, bands}, kRealType<T>);
  p.frames = new_result({F, B * args.channels, H, W}, kRealType<T>);
  p.factors = new_result({F, B}, kRealType<T>);
  p.l2 = new_result({M, B}, kRealType<T>);
  p.attained = new_result({M, B}, ScalarType::Bool);
  p.out_of_range = new_result({M, B}, ScalarType::Bool);
  args.morph.speeds = mutable_data<T>(p.speeds);
  args.morph.phases = mutable_data<T>(p.phases);
  args.morph.out = mutable_data<T>(p.frames);
  args.factors = mutable_data<T>(p.factors);
  args.l2 = mutable_data<T>(p.l2);
  args.attained = mutable_data<bool>(p.attained);
  args.out_of_range = mutable_data<bool>(p.out_of_range);
  return p;
}

// The kernel reads neither the gradients nor the values of the filters of the analysis.
template <typename T>
MorphPlanes<T> prepare_move_planes(const PlaneLimits& limits, const MorphInputs& in,
                                   const MorphOptions& options) {
  return prepare_morph_planes<T>(limits, in, options, "move_planes");
}

// Checks the coefficients, which step_planes has computed, and sets the pointer to them.
template <typename T>
void set_coefficients(Tensor& coefficients, const PlaneLimits& limits, MorphPlanes<T>& p) {
  const char* op = "move_planes";
  MorphArgs<T>& args = p.args;
  const int64_t simd_width = limits.simd_width;
  check_same_device(op, "coefficients", coefficients, "images", p.in.images);
  check_type(op, "coefficients", coefficients, kRealType<T>);
  check_rank(op, "coefficients", coefficients, 2, "[N, floats]");
  check_shape(op, "coefficients", coefficients,
              {args.analysis.count, args.coefficient_vectors(simd_width) * simd_width});
  coefficients = as_contiguous(coefficients);
  args.coefficients = const_cast<T*>(const_data<T>(coefficients));  // move_planes only reads them
  const size_t alignment = simd_width * sizeof(T);
  if (reinterpret_cast<uintptr_t>(args.coefficients) % alignment)
    fail(op, "coefficients must be aligned to ", alignment, " bytes");
}

}  // namespace steerlens
