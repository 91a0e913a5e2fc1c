// Checks the arguments of the morphs of whole planes, and allocates their results.
//
// morph_planes takes N planes and their gradients, filters of the analysis and of the synthesis, and the options of
// step and extrapolate. step_planes computes only coefficients and steps, and move_planes computes frames from these.
// morph_planes_to_l2 searches for the factors. Gradients are analysed by the adjoint of the synthesis.
#pragma once

#include "../kernel_args/morph_to_l2.h"
#include "planes.h"
#include "step.h"

namespace steerlens {

struct MorphInputs {
  Tensor images;
  std::optional<Tensor> gradients;          // move_planes has none
  std::vector<Tensor> analysis, synthesis;  // filters
};

struct MorphOptions {
  int64_t i_power, edit, rule;
  bool complex_bands;
  double eps, floor, low, high;
};

inline void check_filter_shapes(const char* op, const MorphInputs& in) {
  if (in.synthesis.empty() || in.analysis.size() != in.synthesis.size() + 1)
    fail(op, "analysis must have one filter more than synthesis, which must not be empty, got ",
         in.analysis.size(), " and ", in.synthesis.size());
  for (size_t i = 0; i < in.synthesis.size(); ++i)
    check_shape(op, {"analysis", i}, in.analysis[i], shape_of(in.synthesis[i]));
  check_shape(op, {"analysis", in.synthesis.size()}, in.analysis.back(),
              {1, in.images.size(1), in.images.size(2)});
}

// Sets the groups of `args`: for the analysis of the image, the analysis of the gradient, and the synthesis.
template <typename T>
void set_groups(const char* op, const PlaneLimits& limits, MorphInputs& in,
                const MorphOptions& options, MorphArgs<T>& args) {
  const Tensor& images = in.images;
  const PlaneSpec planes = {images.size(0), images.size(1), images.size(2), "images", images};
  const size_t count = in.synthesis.size();
  const Form form = options.complex_bands ? Form::kComplex : Form::kReal;
  const std::vector<int64_t> forms(count, static_cast<int64_t>(form));
  const std::vector<int64_t> inverse_i_powers(count, (4 - options.i_power) % 4);
  std::vector<int64_t> i_powers(count, options.i_power);
  std::vector<int64_t> analysis_forms(count, static_cast<int64_t>(Form::kComplex));
  const auto make = [&](std::vector<Tensor>& filters, const std::vector<int64_t>& powers,
                        const std::vector<int64_t>& group_forms) {
    return make_plane_args<T>(op, limits, planes,
                              {filters, powers, group_forms, {Form::kReal, Form::kComplex}});
  };
  args.gradient_groups = make(in.synthesis, i_powers, forms).groups;
  args.synthesis = make(in.synthesis, inverse_i_powers, forms);
  i_powers.push_back(0);  // the residual
  analysis_forms.push_back(static_cast<int64_t>(Form::kReal));
  args.analysis = make(in.analysis, i_powers, analysis_forms);
}

// Checks the arguments that all these ops have. Returns the arguments of their kernels, without frames and factors.
template <typename T>
MorphArgs<T> check_morph(const char* op, const PlaneLimits& limits, MorphInputs& in,
                         const MorphOptions& options) {
  check_type(op, "images", in.images, kRealType<T>);
  check_rank(op, "images", in.images, 3, "[N, H, W]");
  if (in.gradients) {
    check_type(op, "gradients", *in.gradients, kRealType<T>);
    check_same_device(op, "gradients", *in.gradients, "images", in.images);
    check_shape(op, "gradients", *in.gradients, shape_of(in.images));
    in.gradients = as_contiguous(*in.gradients);
  }
  check_side(op, limits, "height of images", in.images.size(1));
  check_side(op, limits, "width of images", in.images.size(2));
  check_filter_shapes(op, in);
  if (options.edit < 0 || options.edit > 2)
    fail(op, "edit must be 0 (phase), 1 (amplitude) or 2 (joint), got ", options.edit);
  check_i_power(op, "i_power", options.i_power);
  in.images = as_contiguous(in.images);
  MorphArgs<T> args{};
  set_groups(op, limits, in, options, args);
  args.edit = static_cast<Edit>(options.edit);
  args.rule = check_rule(op, options.rule);
  args.eps = static_cast<T>(options.eps);
  args.floor = static_cast<T>(options.floor);
  args.low = static_cast<T>(options.low);
  args.high = static_cast<T>(options.high);
  args.images = const_data<T>(in.images);
  args.gradients = in.gradients ? const_data<T>(*in.gradients) : nullptr;
  return args;
}

struct FrameFactorInputs {
  Tensor phase, amplitude;  // [F, 1] or [F, N]
};

template <typename T>
void set_factors(const char* op, const Tensor& images, FrameFactorInputs& factors,
                 MorphArgs<T>& args) {
  check_factors(op, "phase_factors", factors.phase, "images", images, kFloat64<T>);
  check_factors(op, "amplitude_factors", factors.amplitude, "images", images, kFloat64<T>);
  check_shape(op, "amplitude_factors", factors.amplitude, shape_of(factors.phase));
  args.frames = factors.phase.size(0);
  args.phase_factors = const_data<T>(factors.phase);
  args.amplitude_factors = const_data<T>(factors.amplitude);
  args.factor_stride = factors.phase.size(1) == 1 ? 0 : 1;
}

// Allocates the frames of a morph, with `planes` planes each.
template <typename T>
Tensor new_frames(const Tensor& images, int64_t planes, MorphArgs<T>& args) {
  Tensor frames =
      new_tensor(images, {args.frames, planes, images.size(1), images.size(2)}, kRealType<T>);
  args.out = mutable_data<T>(frames);
  return frames;
}

template <typename T>
struct MorphPlanes {
  MorphInputs in;
  FrameFactorInputs factors;
  MorphArgs<T> args;
  Tensor frames;  // result
};

template <typename T>
MorphPlanes<T> prepare_morph_planes(const PlaneLimits& limits, MorphInputs in,
                                    FrameFactorInputs factors, const MorphOptions& options) {
  const char* op = "morph_planes";
  MorphArgs<T> args = check_morph<T>(op, limits, in, options);
  set_factors(op, in.images, factors, args);
  const Tensor frames = new_frames(in.images, args.analysis.count, args);
  return {in, factors, args, frames};
}

// The size of the steps of each band, [N, bands]: see MorphArgs.
struct StepSizes {
  Tensor squared_speeds, phases;
};

template <typename T>
StepSizes new_step_sizes(const Tensor& images, MorphArgs<T>& args) {
  const Shape shape = {args.analysis.count, args.bands()};
  StepSizes sizes = {new_tensor(images, shape, kRealType<T>),
                     new_tensor(images, shape, kRealType<T>)};
  args.squared_speeds = mutable_data<T>(sizes.squared_speeds);
  args.phases = mutable_data<T>(sizes.phases);
  return sizes;
}

template <typename T>
struct StepPlanes {
  MorphInputs in;
  MorphArgs<T> args;
  Tensor coefficients;  // results
  StepSizes sizes;
};

template <typename T>
StepPlanes<T> prepare_step_planes(const PlaneLimits& limits, MorphInputs in,
                                  const MorphOptions& options) {
  MorphArgs<T> args = check_morph<T>("step_planes", limits, in, options);
  const int64_t numbers = args.coefficient_vectors(limits.simd_width) * limits.simd_width;
  Tensor coefficients = new_tensor(in.images, {args.analysis.count, numbers}, kRealType<T>);
  args.coefficients = mutable_data<T>(coefficients);
  const StepSizes sizes = new_step_sizes(in.images, args);
  return {in, args, coefficients, sizes};
}

template <typename T>
struct MovePlanes {
  MorphInputs in;
  Tensor coefficients;
  FrameFactorInputs factors;
  MorphArgs<T> args;
  Tensor frames;  // result
};

// Only the shapes of the analysis filters are used.
template <typename T>
MovePlanes<T> prepare_move_planes(const PlaneLimits& limits, MorphInputs in, Tensor coefficients,
                                  FrameFactorInputs factors, const MorphOptions& options) {
  const char* op = "move_planes";
  MorphArgs<T> args = check_morph<T>(op, limits, in, options);
  set_factors(op, in.images, factors, args);
  const int64_t simd_width = limits.simd_width;
  check_same_device(op, "coefficients", coefficients, "images", in.images);
  check_type(op, "coefficients", coefficients, kRealType<T>);
  check_rank(op, "coefficients", coefficients, 2, "[N, numbers]");
  check_shape(op, "coefficients", coefficients,
              {args.analysis.count, args.coefficient_vectors(simd_width) * simd_width});
  coefficients = as_contiguous(coefficients);
  args.coefficients = const_cast<T*>(const_data<T>(coefficients));  // move_planes only reads them
  const size_t alignment = simd_width * sizeof(T);
  if (reinterpret_cast<uintptr_t>(args.coefficients) % alignment)
    fail(op, "coefficients must be aligned to ", alignment, " bytes");
  const Tensor frames = new_frames(in.images, args.analysis.count, args);
  return {in, coefficients, factors, args, frames};
}

// See kernel_args/morph_to_l2.h for these and the following arguments.
struct SampleInputs {
  int64_t planes_per_sample;
  std::optional<Tensor> base;  // [B * channels, H, W]
};

struct SearchOptions {
  double phase_cap, phase_limit, speed_share;
  int64_t iterations;
};

// Checks `base`, to which the changes of the planes are added. Returns the number of channels of a sample.
template <typename T>
int64_t check_base(const char* op, const Tensor& images, int64_t B, SampleInputs& samples) {
  if (!samples.base) return samples.planes_per_sample;
  Tensor& base = *samples.base;
  check_type(op, "base", base, kRealType<T>);
  check_same_device(op, "base", base, "images", images);
  check_rank(op, "base", base, 3, "[B * channels, H, W]");
  check_shape(op, "base", base, {base.size(0), images.size(1), images.size(2)});
  const int64_t planes = images.size(0);
  if (planes > 0 ? base.size(0) == 0 || base.size(0) % planes : base.size(0) != 0)
    fail(op, "number of planes of base must be a multiple of that of images, ", planes, ", got ",
         base.size(0));
  base = as_contiguous(base);
  return B ? base.size(0) / B : samples.planes_per_sample;
}

// Checks the arguments that morph_planes_to_l2 and advance_planes share. Returns the arguments of their kernels, without
// frames, distances and factors.
template <typename T>
MorphToL2Args<T> check_samples(const char* op, const PlaneLimits& limits, MorphInputs& in,
                               SampleInputs& samples, const MorphOptions& options,
                               const SearchOptions& search) {
  MorphToL2Args<T> args{};
  args.morph = check_morph<T>(op, limits, in, options);
  const int64_t N = in.images.size(0), per_sample = samples.planes_per_sample;
  if (per_sample < 1 || N % per_sample)
    fail(op, "planes_per_sample must divide the number of planes, ", N, ", got ", per_sample);
  constexpr int64_t kMaxIterations = int64_t{1} << 20;  // the kernels store a distance for each
  if (search.iterations < 0 || search.iterations > kMaxIterations)
    fail(op, "iterations must be from 0 to ", kMaxIterations, ", got ", search.iterations);
  args.samples = N / per_sample;
  args.planes_per_sample = per_sample;
  args.channels = check_base<T>(op, in.images, args.samples, samples);
  args.base = samples.base ? const_data<T>(*samples.base) : nullptr;
  args.phase_cap = static_cast<T>(search.phase_cap);
  args.phase_limit = static_cast<T>(search.phase_limit);
  args.speed_share = static_cast<T>(search.speed_share);
  args.iterations = search.iterations;
  return args;
}

struct DistanceInputs {
  Tensor max_l2, tolerances;  // [M, B]
  Tensor dtype_max_factors;   // [B]
  Tensor shares;              // [F - M]
};

template <typename T>
void set_distances(const char* op, const Tensor& images, DistanceInputs& in,
                   MorphToL2Args<T>& args) {
  const auto check = [&](const char* name, Tensor& t, int64_t rank, const char* layout) {
    check_type(op, name, t, kRealType<T>);
    check_same_device(op, name, t, "images", images);
    check_rank(op, name, t, rank, layout);
    t = as_contiguous(t);
    return const_data<T>(t);
  };
  args.max_l2 = check("max_l2", in.max_l2, 2, "[M, B]");
  args.tolerances = check("tolerances", in.tolerances, 2, "[M, B]");
  args.dtype_max_factors = check("dtype_max_factors", in.dtype_max_factors, 1, "[B]");
  args.shares = check("shares", in.shares, 1, "[F - M]");
  args.distances = in.max_l2.size(0);
  check_shape(op, "max_l2", in.max_l2, {args.distances, args.samples});
  if (args.distances == 0) fail(op, "max_l2 must have at least one row, got none");
  check_shape(op, "tolerances", in.tolerances, shape_of(in.max_l2));
  check_shape(op, "dtype_max_factors", in.dtype_max_factors, {args.samples});
  args.morph.frames = args.distances + in.shares.size(0);
}

template <typename T>
struct MorphPlanesToL2 {
  MorphInputs in;
  SampleInputs samples;
  DistanceInputs distances;
  MorphToL2Args<T> args;
  StepSizes sizes;
  Tensor frames, factors, l2, attained, out_of_range;  // results
};

template <typename T>
MorphPlanesToL2<T> prepare_morph_planes_to_l2(const PlaneLimits& limits, const MorphInputs& in,
                                              const SampleInputs& samples,
                                              const DistanceInputs& distances,
                                              const MorphOptions& options,
                                              const SearchOptions& search) {
  const char* op = "morph_planes_to_l2";
  MorphPlanesToL2<T> p{in, samples, distances, {}, {}, {}, {}, {}, {}, {}};
  MorphToL2Args<T>& args = p.args;
  args = check_samples<T>(op, limits, p.in, p.samples, options, search);
  const Tensor& images = p.in.images;
  set_distances(op, images, p.distances, args);
  const int64_t F = args.morph.frames, M = args.distances, B = args.samples;
  p.sizes = new_step_sizes(images, args.morph);
  p.frames = new_frames(images, B * args.channels, args.morph);
  p.factors = new_tensor(images, {F, B}, kRealType<T>);
  p.l2 = new_tensor(images, {M, B}, kRealType<T>);
  p.attained = new_tensor(images, {M, B}, ScalarType::Bool);
  p.out_of_range = new_tensor(images, {M, B}, ScalarType::Bool);
  args.factors = mutable_data<T>(p.factors);
  args.l2 = mutable_data<T>(p.l2);
  args.attained = mutable_data<bool>(p.attained);
  args.out_of_range = mutable_data<bool>(p.out_of_range);
  return p;
}

}  // namespace steerlens
