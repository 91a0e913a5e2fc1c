// Checks the arguments of split_planes and merge_planes, and allocates their results. T is the type of their numbers,
// float or double. A group of bands is described as for split_bands (kernel_args/bands.h, math/bands.h), but
// always in the full layout.
#pragma once

#include "../checks.h"
#include "../kernel_args/planes.h"
#include "bands.h"
#include "extrapolate.h"
#include "row_blocks.h"

namespace steerlens {

// Limits of the kernels of a device.
struct PlaneLimits {
  int64_t max_side;    // side of planes and bands
  int64_t max_groups;  // groups of bands
  int64_t simd_width;  // rows of a row block; 0 on devices whose kernels have no row blocks
};

constexpr PlaneLimits cpu_limits(int64_t simd_width) {
  return {int64_t{1} << 14, INT64_MAX, simd_width};
}
// On CUDA, registers limit the sides, and the size of kernel parameters limits the groups (cuda/planes).
constexpr PlaneLimits kCudaLimits = {256, 20, 0};

// Whether planes and bands may have a side of length n.
inline bool side_supported(const PlaneLimits& limits, int64_t n) {
  if (n < 1 || n > limits.max_side) return false;
  for (int64_t divisor = 2; divisor <= kMaxPrime; ++divisor)
    while (n % divisor == 0) n /= divisor;
  return n == 1;
}

inline void check_side(const char* op, const PlaneLimits& limits, const ArgName& name, int64_t n) {
  if (n < 1 || n > limits.max_side) fail(op, name, " must be 1 to ", limits.max_side, ", got ", n);
  if (!side_supported(limits, n))
    fail(op, name, " must have no prime factor above ", kMaxPrime, ", got ", n);
}

// The groups of bands of an op.
struct GroupSpec {
  // One entry for each group.
  std::vector<Tensor>& filters;
  const std::vector<int64_t>&i_powers, &forms;

  std::vector<Form> allowed_forms;  // those that the op accepts
};

// The planes of an op: `count` planes of H x W, and an argument on whose device the filters must be.
struct PlaneSpec {
  int64_t count, H, W;
  ArgName like_name;
  const Tensor& like;
};

// Makes the arguments of a kernel, without pointers to bands. Replaces filters that are not contiguous by contiguous
// copies.
template <typename T>
PlaneArgs<T> make_plane_args(const char* op, const PlaneLimits& limits, const PlaneSpec& planes,
                             const GroupSpec& spec) {
  const auto& [N, H, W, like_name, like] = planes;
  const auto& [filters, i_powers, forms, allowed_forms] = spec;
  const size_t count = filters.size();
  check_side(op, limits, "height", H);
  check_side(op, limits, "width", W);
  if (count > static_cast<size_t>(limits.max_groups))
    fail(op, "filters must hold at most ", limits.max_groups, " tensors on this device, got ",
         count);
  if (i_powers.size() != count || forms.size() != count)
    fail(op, "i_powers and forms must have one entry for each of ", count, " filters, got ",
         i_powers.size(), " and ", forms.size());
  PlaneArgs<T> args{N, H, W, {}, row_blocks(H, H, limits.simd_width)};
  for (size_t i = 0; i < count; ++i) {
    check_type(op, {"filters", i}, filters[i], kRealType<T>);
    check_same_device(op, {"filters", i}, filters[i], like_name, like);
    check_rank(op, {"filters", i}, filters[i], 3, "[K, h, w]");
    check_i_power(op, {"i_powers", i}, i_powers[i]);
    PlaneGroup<T> group{};
    group.K = filters[i].size(0);
    group.h = filters[i].size(1);
    group.w = filters[i].size(2);
    if (group.h < 1 || group.h > H || group.w < 1 || group.w > W)
      fail(op, "filters[", i, "] must have shape [K, h, w] with h <= ", H, " and w <= ", W,
           ", got ", shape_text(shape_of(filters[i])));
    check_side(op, limits, {"height of filters", i}, group.h);
    check_side(op, limits, {"width of filters", i}, group.w);
    filters[i] = as_contiguous(filters[i]);
    group.filter = const_data<T>(filters[i]);
    group.i_power = static_cast<int>(i_powers[i]);
    group.form = check_form(op, {"forms", i}, forms[i], allowed_forms);
    group.stride = group.form == Form::kReal ? 1 : 2;
    group.row_blocks = row_blocks(group.h, H, limits.simd_width);
    args.groups.push_back(group);
  }
  return args;
}

template <typename T>
struct SplitPlanes {
  Tensor planes;
  std::vector<Tensor> filters;
  PlaneArgs<T> args;
  std::vector<Tensor> bands;  // results

  int64_t result_bytes() const {
    int64_t bytes = 0;
    for (const Tensor& t : bands) bytes += t.numel() * static_cast<int64_t>(t.element_size());
    return bytes;
  }
};

template <typename T>
SplitPlanes<T> prepare_split_planes(const PlaneLimits& limits, const Tensor& planes,
                                    std::vector<Tensor> filters,
                                    const std::vector<int64_t>& i_powers,
                                    const std::vector<int64_t>& forms) {
  const char* op = "split_planes";
  check_type(op, "planes", planes, kRealType<T>);
  check_rank(op, "planes", planes, 3, "[N, H, W]");
  std::vector<Form> allowed = {Form::kReal, Form::kComplex};
  if (limits.simd_width > 0) allowed.push_back(Form::kWidened);  // on CPUs
  PlaneArgs<T> args = make_plane_args<T>(
      op, limits, {planes.size(0), planes.size(1), planes.size(2), "planes", planes},
      {filters, i_powers, forms, allowed});
  std::vector<Tensor> bands;
  for (PlaneGroup<T>& group : args.groups) {
    bands.push_back(new_tensor(planes, {args.count, group.K, group.h, group.w},
                               group.stride == 1 ? kRealType<T> : kComplexType<T>));
    group.bands_out = mutable_data<T>(bands.back());
  }
  return {as_contiguous(planes), filters, args, bands};
}

template <typename T>
struct MergePlanes {
  std::vector<Tensor> bands, filters;
  PlaneArgs<T> args;
  std::optional<Tensor> residual;  // [n, H, W]; residual[j % n] is added to plane j
  Tensor planes;                   // result
};

inline void check_band_count(const char* op, const std::vector<Tensor>& bands,
                             const std::vector<Tensor>& filters) {
  if (bands.empty() || bands.size() != filters.size())
    fail(op, "bands must hold one tensor for each of ", filters.size(), " filters, got ",
         bands.size());
}

template <typename T>
MergePlanes<T> prepare_merge_planes(const PlaneLimits& limits, std::vector<Tensor> bands,
                                    std::vector<Tensor> filters,
                                    const std::vector<int64_t>& i_powers,
                                    const std::vector<int64_t>& forms,
                                    std::optional<Tensor> residual, int64_t height, int64_t width) {
  const char* op = "merge_planes";
  check_band_count(op, bands, filters);
  check_rank(op, "bands[0]", bands[0], 4, "[N, K, h, w]");
  PlaneArgs<T> args =
      make_plane_args<T>(op, limits, {bands[0].size(0), height, width, "bands[0]", bands[0]},
                         {filters, i_powers, forms, kFormsWithPairs});
  for (size_t i = 0; i < bands.size(); ++i) {
    PlaneGroup<T>& group = args.groups[i];
    const bool complex = is_complex(bands[i].scalar_type());
    check_same_device(op, {"bands", i}, bands[i], "bands[0]", bands[0]);
    check_type(op, {"bands", i}, bands[i],
               complex || group.form != Form::kReal ? kComplexType<T> : kRealType<T>);
    check_rank(op, {"bands", i}, bands[i], 4, "[N, K, h, w]");
    check_shape(op, {"bands", i}, bands[i], {args.count, group.num_stored(), group.h, group.w});
    bands[i] = as_contiguous(bands[i]);
    group.stride = complex ? 2 : 1;
    group.bands = const_data<T>(bands[i]);
  }
  if (residual.has_value()) {
    check_same_device(op, "residual", *residual, "bands[0]", bands[0]);
    check_type(op, "residual", *residual, kRealType<T>);
    check_rank(op, "residual", *residual, 3, "[n, H, W]");
    const int64_t n = residual->size(0);
    check_shape(op, "residual", *residual, {n, height, width});
    if (args.count > 0 && (n == 0 || args.count % n != 0))
      fail(op, "residual must have a number of planes that divides that of bands, ", args.count,
           ", got ", n);
    residual = as_contiguous(*residual);
  }
  const Tensor planes = new_tensor(bands[0], {args.count, height, width}, kRealType<T>);
  return {bands, filters, args, residual, planes};
}

}  // namespace steerlens
