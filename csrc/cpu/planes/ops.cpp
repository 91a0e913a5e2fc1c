// split_planes, merge_planes, morph_planes, step_planes and move_planes on CPUs with SIMD registers, in float32.
#include "../../args/morph.h"
#include "../kernels/planes.h"

namespace steerlens {
namespace {

// Sets a member that only the CPU's kernels read.
void set_image_blocks(PlaneArgs& args) {
  args.image_blocks = row_blocks(args.H, args.H, simd_width());
}

std::vector<Tensor> split_planes(Tensor planes, std::vector<Tensor> filters,
                                 std::vector<int64_t> i_powers, std::vector<int64_t> forms) {
  auto p = prepare_split_planes(cpu_limits(simd_width()), planes, filters, {i_powers, forms});
  SplitPlanesArgs args{std::move(p.args), const_data<float>(p.planes), p.result_bytes()};
  if (args.result_bytes == 0) return p.bands;
  set_image_blocks(args.planes);
  run_split(args);
  return p.bands;
}

Tensor merge_planes(std::vector<Tensor> bands, std::vector<Tensor> filters,
                    std::vector<int64_t> i_powers, std::vector<int64_t> forms,
                    std::optional<Tensor> residual, int64_t height, int64_t width) {
  auto p = prepare_merge_planes(cpu_limits(simd_width()), bands, filters, {i_powers, forms},
                                residual, height, width);
  MergePlanesArgs args{std::move(p.args), nullptr, 1, mutable_data<float>(p.planes)};
  if (args.planes.count == 0) return p.planes;
  if (p.residual.has_value()) {
    args.residual = const_data<float>(*p.residual);
    args.residual_planes = p.residual->size(0);
  }
  set_image_blocks(args.planes);
  run_merge(args);
  return p.planes;
}

Tensor morph_planes(Tensor images, Tensor gradients, Tensor phase_factors, Tensor amplitude_factors,
                    std::vector<Tensor> analysis, std::vector<Tensor> synthesis, int64_t i_power,
                    int64_t edit, int64_t rule, bool complex_bands, double eps, double floor,
                    double low, double high) {
  auto p = prepare_morph_planes(
      cpu_limits(simd_width()),
      {images, gradients, phase_factors, amplitude_factors, analysis, synthesis},
      {i_power, edit, rule, complex_bands, eps, floor, low, high});
  if (p.frames.numel() == 0) return p.frames;
  set_image_blocks(p.args.analysis);
  set_image_blocks(p.args.synthesis);
  run_morph(p.args);
  return p.frames;
}

std::tuple<Tensor, Tensor, Tensor> step_planes(Tensor images, Tensor gradients,
                                               std::vector<Tensor> analysis,
                                               std::vector<Tensor> synthesis, int64_t i_power,
                                               int64_t edit, int64_t rule, bool complex_bands,
                                               double eps, double floor) {
  auto p = prepare_step_planes(cpu_limits(simd_width()), images, gradients, analysis, synthesis,
                               {i_power, edit, rule, complex_bands, eps, floor, 0, 0});
  const int64_t N = p.args.analysis.count,
                floats = p.args.coefficient_vectors(simd_width()) * simd_width();
  const auto new_result = [&](int64_t n) {
    return new_tensor(p.in.images, {N, n}, ScalarType::Float);
  };
  Tensor coefficients = new_result(floats), speeds = new_result(p.args.bands()),
         phases = new_result(p.args.bands());
  if (N == 0) return {coefficients, speeds, phases};
  p.args.coefficients = mutable_data<float>(coefficients);
  p.args.speeds = mutable_data<float>(speeds);
  p.args.phases = mutable_data<float>(phases);
  set_image_blocks(p.args.analysis);
  run_step(p.args);
  return {coefficients, speeds, phases};
}

Tensor move_planes(Tensor images, Tensor coefficients, Tensor phase_factors,
                   Tensor amplitude_factors, std::vector<Tensor> analysis,
                   std::vector<Tensor> synthesis, int64_t i_power, int64_t edit, int64_t rule,
                   bool complex_bands, double low, double high) {
  auto p =
      prepare_move_planes(cpu_limits(simd_width()),
                          {images, images, phase_factors, amplitude_factors, analysis, synthesis},
                          {i_power, edit, rule, complex_bands, 0, 0, low, high});
  set_coefficients(coefficients, cpu_limits(simd_width()), p);
  if (p.frames.numel() == 0) return p.frames;
  set_image_blocks(p.args.synthesis);
  run_move(p.args);
  return p.frames;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> morph_planes_to_l2(
    Tensor images, Tensor gradients, int64_t planes_per_sample, std::optional<Tensor> base,
    Tensor max_l2, Tensor tolerances, Tensor range_ends, Tensor shares,
    std::vector<Tensor> analysis, std::vector<Tensor> synthesis, int64_t i_power, int64_t edit,
    int64_t rule, bool complex_bands, double eps, double floor, double low, double high,
    double phase_cap, double phase_limit, double speed_share, int64_t iterations) {
  auto p = prepare_morph_planes_to_l2(
      cpu_limits(simd_width()), {images, gradients, images, images, analysis, synthesis},
      {base, planes_per_sample, max_l2, tolerances, range_ends, shares},
      {i_power, edit, rule, complex_bands, eps, floor, low, high},
      {phase_cap, phase_limit, speed_share, iterations});
  if (p.args.samples > 0) {
    set_image_blocks(p.args.morph.analysis);
    set_image_blocks(p.args.morph.synthesis);
    run_morph_to_l2(p.args);
  }
  return {p.frames, p.factors, p.l2, p.attained, p.out_of_range};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CPU, m) {
  if (simd_width() == 0) return;
  m.impl("split_planes", TORCH_BOX(&split_planes));
  m.impl("merge_planes", TORCH_BOX(&merge_planes));
  m.impl("morph_planes", TORCH_BOX(&morph_planes));
  m.impl("step_planes", TORCH_BOX(&step_planes));
  m.impl("move_planes", TORCH_BOX(&move_planes));
  m.impl("morph_planes_to_l2", TORCH_BOX(&morph_planes_to_l2));
}

}  // namespace steerlens
