// The arguments of morph_planes: N planes and their gradients, the filters of the analysis and of the
// synthesis (whose adjoint analyses the gradient), and what step and extrapolate take.
#pragma once

#include "planes.h"
#include "step.h"

namespace steerlens {

enum class Edit : int { kPhase = 0, kAmplitude = 1, kJoint = 2 };

struct MorphArgs {
  PlaneBank analysis;   // the bands that move, complex; last, what they do not hold, real
  PlaneBank synthesis;  // the same bands: Form::kReal or kBoth
  std::vector<PlanePart> gradient;  // the same bands of the synthesis' adjoint
  Edit edit;
  Rule rule;
  float eps, floor, low, high;
  int64_t frames;
  const float *images, *gradients;
  const float *phase_factors, *amplitude_factors;
  int64_t factor_stride;  // factors are [F, factor_stride ? N : 1]
  float* out;             // [F, N, H, W]

  int64_t factor_index(int64_t frame, int64_t plane) const {
    return factor_stride ? frame * analysis.count + plane : frame;
  }
  bool moves_phase() const { return edit != Edit::kAmplitude; }
  bool moves_amplitude() const { return edit != Edit::kPhase; }

  // A frame of factors 0 is the plane itself.
  bool moves(int64_t frame, int64_t plane) const {
    const int64_t at = factor_index(frame, plane);
    return (moves_phase() && phase_factors[at] != 0) ||
           (moves_amplitude() && amplitude_factors[at] != 0);
  }
};

struct MorphTensors {
  Tensor images, gradients, phase_factors, amplitude_factors;
  std::vector<Tensor> analysis, synthesis;
};

inline void check_morph_planes(const char* op, int64_t lanes, MorphTensors& t) {
  check_cpu(op, "images", t.images);
  check_type(op, "images", t.images, ScalarType::Float);
  check_rank(op, "images", t.images, 3, "[N, H, W]");
  check_type(op, "gradients", t.gradients, ScalarType::Float);
  check_same_device(op, "gradients", t.gradients, "images", t.images);
  check_shape(op, "gradients", t.gradients, shape_of(t.images));
  check_factors(op, "phase_factors", t.phase_factors, "images", t.images, false);
  check_factors(op, "amplitude_factors", t.amplitude_factors, "images", t.images, false);
  check_shape(op, "amplitude_factors", t.amplitude_factors, shape_of(t.phase_factors));
  if (t.synthesis.empty() || t.analysis.size() != t.synthesis.size() + 1)
    fail(op, "analysis must have one filter more than synthesis, which must not be empty, got ",
         t.analysis.size(), " and ", t.synthesis.size());
  for (size_t i = 0; i < t.synthesis.size(); ++i)
    check_shape(op, "analysis[i]", t.analysis[i], shape_of(t.synthesis[i]));
  check_side(op, "images' height", t.images.size(1));
  check_side(op, "images' width", t.images.size(2));
  check_shape(op, "analysis' last", t.analysis.back(),
              {1, panels_of(t.images.size(1), lanes), t.images.size(2), lanes});
  t.images = packed(t.images);
  t.gradients = packed(t.gradients);
}

template <typename Run>
Tensor morph_planes_with(int64_t lanes, MorphTensors t, const std::vector<int64_t>& heights,
                         int64_t turns, int64_t edit, int64_t rule, bool both, double eps,
                         double floor, double low, double high, const Run& run) {
  const char* op = "morph_planes";
  check_morph_planes(op, lanes, t);
  if (edit < 0 || edit > 2)
    fail(op, "edit must be 0 (phase), 1 (amplitude) or 2 (joint), got ", edit);
  if (turns < 0 || turns > 3) fail(op, "turns must be 0 to 3, got ", turns);
  const int64_t N = t.images.size(0), H = t.images.size(1), W = t.images.size(2);
  const size_t parts = t.synthesis.size();
  const std::vector<int64_t> both_forms(parts, both), opposite(parts, (4 - turns) % 4);
  MorphArgs args{};
  args.analysis = {N, H, W, {}};
  args.synthesis = {N, H, W, {}};
  std::vector<int64_t> all_heights = heights, all_turns(parts, turns), forms(parts, 1);
  args.gradient = plane_parts(op, lanes, t.synthesis, heights, all_turns, both_forms, H, W, false);
  args.synthesis.parts =
      plane_parts(op, lanes, t.synthesis, heights, opposite, both_forms, H, W, false);
  all_heights.push_back(H);
  all_turns.push_back(0);
  forms.push_back(0);
  args.analysis.parts =
      plane_parts(op, lanes, t.analysis, all_heights, all_turns, forms, H, W, false);
  args.edit = static_cast<Edit>(edit);
  args.rule = check_rule(op, rule);
  args.eps = static_cast<float>(eps);
  args.floor = static_cast<float>(floor);
  args.low = static_cast<float>(low);
  args.high = static_cast<float>(high);
  args.frames = t.phase_factors.size(0);
  args.images = read<float>(t.images);
  args.gradients = read<float>(t.gradients);
  args.phase_factors = read<float>(t.phase_factors);
  args.amplitude_factors = read<float>(t.amplitude_factors);
  args.factor_stride = t.phase_factors.size(1) == 1 ? 0 : 1;
  Tensor out = new_tensor(t.images, {args.frames, N, H, W}, ScalarType::Float);
  args.out = write<float>(out);
  if (out.numel() > 0) run(args);
  return out;
}

}  // namespace steerlens
