// The ops on whole planes, for CPU levels with a SIMD width (capability.h).
#if defined(STEERLENS_X86_LEVELS) || STEERLENS_DEFAULT_SIMD_WIDTH
#include "../../prepare/advance.h"
#include "../kernels/planes.h"

namespace steerlens {
namespace {

template <typename T>
PlaneLimits limits() {
  return cpu_limits(simd_width() * static_cast<int64_t>(sizeof(float)) /
                    static_cast<int64_t>(sizeof(T)));
}

// Returns run(T()). T is float or double: the type of the first tensor's numbers.
template <typename Run>
auto with_precision(const char* op, const ArgName& name, const Tensor& first, const Run& run) {
  const bool float64 = check_floating(op, name, first, is_complex(first.scalar_type()));
  return float64 ? run(double()) : run(float());
}

std::vector<Tensor> split_planes(Tensor planes, std::vector<Tensor> filters,
                                 std::vector<int64_t> i_powers, std::vector<int64_t> forms) {
  return with_precision("split_planes", "planes", planes, [&](auto zero) {
    using T = decltype(zero);
    auto p = prepare_split_planes<T>(limits<T>(), planes, filters, i_powers, forms);
    SplitPlanesArgs<T> args{std::move(p.args), const_data<T>(p.planes), p.result_bytes()};
    if (args.result_bytes > 0) run_split(args);
    return p.bands;
  });
}

Tensor merge_planes(std::vector<Tensor> bands, std::vector<Tensor> filters,
                    std::vector<int64_t> i_powers, std::vector<int64_t> forms,
                    std::optional<Tensor> residual, int64_t height, int64_t width) {
  check_band_count("merge_planes", bands, filters);
  return with_precision("merge_planes", "bands[0]", bands[0], [&](auto zero) {
    using T = decltype(zero);
    auto p = prepare_merge_planes<T>(limits<T>(), bands, filters, i_powers, forms, residual, height,
                                     width);
    MergePlanesArgs<T> args{std::move(p.args), nullptr, 1, mutable_data<T>(p.planes)};
    if (p.residual.has_value()) {
      args.residual = const_data<T>(*p.residual);
      args.residual_planes = p.residual->size(0);
    }
    if (args.planes.count > 0) run_merge(args);
    return p.planes;
  });
}

Tensor morph_planes(Tensor images, Tensor gradients, Tensor phase_factors, Tensor amplitude_factors,
                    std::vector<Tensor> analysis, std::vector<Tensor> synthesis, int64_t i_power,
                    int64_t edit, int64_t rule, bool complex_bands, double eps, double floor,
                    double low, double high) {
  return with_precision("morph_planes", "images", images, [&](auto zero) {
    using T = decltype(zero);
    auto p = prepare_morph_planes<T>(limits<T>(), {images, gradients, analysis, synthesis},
                                     {phase_factors, amplitude_factors},
                                     {i_power, edit, rule, complex_bands, eps, floor, low, high});
    if (p.frames.numel() > 0) run_morph(p.args);
    return p.frames;
  });
}

std::tuple<Tensor, Tensor, Tensor> step_planes(Tensor images, Tensor gradients,
                                               std::vector<Tensor> analysis,
                                               std::vector<Tensor> synthesis, int64_t i_power,
                                               int64_t edit, int64_t rule, bool complex_bands,
                                               double eps, double floor) {
  return with_precision("step_planes", "images", images, [&](auto zero) {
    using T = decltype(zero);
    auto p = prepare_step_planes<T>(limits<T>(), {images, gradients, analysis, synthesis},
                                    {i_power, edit, rule, complex_bands, eps, floor, 0, 0});
    if (p.args.analysis.count > 0) run_step(p.args);
    return std::tuple(p.coefficients, p.sizes.squared_speeds, p.sizes.phases);
  });
}

Tensor move_planes(Tensor images, Tensor coefficients, Tensor phase_factors,
                   Tensor amplitude_factors, std::vector<Tensor> analysis,
                   std::vector<Tensor> synthesis, int64_t i_power, int64_t edit, int64_t rule,
                   bool complex_bands, double low, double high) {
  return with_precision("move_planes", "images", images, [&](auto zero) {
    using T = decltype(zero);
    auto p = prepare_move_planes<T>(limits<T>(), {images, std::nullopt, analysis, synthesis},
                                    coefficients, {phase_factors, amplitude_factors},
                                    {i_power, edit, rule, complex_bands, 0, 0, low, high});
    if (p.frames.numel() > 0) run_move(p.args);
    return p.frames;
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> morph_planes_to_l2(
    Tensor images, Tensor gradients, int64_t planes_per_sample, std::optional<Tensor> base,
    Tensor max_l2, Tensor tolerances, Tensor dtype_max_factors, Tensor shares,
    std::vector<Tensor> analysis, std::vector<Tensor> synthesis, int64_t i_power, int64_t edit,
    int64_t rule, bool complex_bands, double eps, double floor, double low, double high,
    double phase_cap, double phase_limit, double speed_share, int64_t iterations) {
  return with_precision("morph_planes_to_l2", "images", images, [&](auto zero) {
    using T = decltype(zero);
    auto p = prepare_morph_planes_to_l2<T>(
        limits<T>(), {images, gradients, analysis, synthesis}, {planes_per_sample, base},
        {max_l2, tolerances, dtype_max_factors, shares},
        {i_power, edit, rule, complex_bands, eps, floor, low, high},
        {phase_cap, phase_limit, speed_share, iterations});
    if (p.args.samples > 0) run_morph_to_l2(p.args);
    return std::tuple(p.frames, p.factors, p.l2, p.attained, p.out_of_range);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> advance_planes(
    Tensor images, Tensor gradients, std::vector<Tensor> coordinates, int64_t planes_per_sample,
    std::optional<Tensor> base, Tensor source, Tensor position, std::optional<Tensor> factors,
    std::optional<Tensor> l2_limits, std::vector<Tensor> analysis, std::vector<Tensor> synthesis,
    int64_t i_power, int64_t edit, int64_t rule, bool complex_bands, double eps, double floor,
    double low, double high, double phase_cap, double phase_limit, double speed_share,
    double max_step_ratio, int64_t iterations) {
  return with_precision("advance_planes", "images", images, [&](auto zero) {
    using T = decltype(zero);
    auto p = prepare_advance_planes<T>(
        limits<T>(), {images, gradients, analysis, synthesis}, {planes_per_sample, base},
        {coordinates, source, position, factors, l2_limits},
        {i_power, edit, rule, complex_bands, eps, floor, low, high},
        {phase_cap, phase_limit, speed_share, iterations}, max_step_ratio);
    for (Tensor& t : p.advance.coordinates) mark_as_written(t);
    if (p.args.to_l2.samples > 0) run_advance(p.args);
    return std::tuple(p.frames, p.factors, p.l2, p.out_of_range);
  });
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
  m.impl("advance_planes", TORCH_BOX(&advance_planes));
}

}  // namespace steerlens
#endif
