// The arguments of split_planes and merge_planes. A group of bands is as in bands.h, in the full layout.
#pragma once

#include "../checks.h"
#include "../kernel_args/planes.h"
#include "../math/bands.h"
#include "bands.h"
#include "extrapolate.h"

namespace steerlens {

// The largest side.
constexpr int64_t kMaxSide = int64_t{1} << 14;

inline bool side_in_range(int64_t n) { return n >= 1 && n <= kMaxSide; }

// Whether planes and bands may have a side of n samples.
inline bool side_supported(int64_t n) {
  if (!side_in_range(n)) return false;
  for (int64_t prime = 2; prime <= kMaxPrime; ++prime)
    while (n % prime == 0) n /= prime;
  return n == 1;
}

inline void check_side(const char* op, const ArgName& name, int64_t n) {
  if (!side_in_range(n)) fail(op, name, " must be 1 to ", kMaxSide, ", got ", n);
  if (!side_supported(n))
    fail(op, name, " must have no prime factor above ", kMaxPrime, ", got ", n);
}

// The blocks of which a band of h rows has at least one row.
inline std::vector<RowBlock> row_blocks(int64_t h, int64_t H, int64_t simd_width) {
  std::vector<RowBlock> out;
  for (int64_t index = 0; index < blocks_of(H, simd_width); ++index) {
    RowBlock block{index, {}};
    bool any = false;
    for (int64_t lane = 0; lane < simd_width; ++lane) {
      const int64_t Y = index * simd_width + lane;
      block.rows[lane] = Y < H ? band_row(Y, h, H) : -1;
      any = any || block.rows[lane] >= 0;
    }
    if (any) out.push_back(block);
  }
  return out;
}

inline void check_cpu(const char* op, const ArgName& name, const Tensor& t) {
  if (t.is_cuda()) fail(op, name, " must be on the CPU, got ", device_text(t));
}

// What describes the groups of bands, one entry for each.
struct GroupSpec {
  const std::vector<int64_t>&i_powers, &forms;
};

// The groups without their bands. Replaces filters that are not contiguous by copies.
inline std::vector<PlaneGroup> make_plane_groups(const char* op, int64_t simd_width,
                                                 std::vector<Tensor>& filters,
                                                 const GroupSpec& spec, int64_t H, int64_t W,
                                                 bool pairs_allowed) {
  const auto& [i_powers, forms] = spec;
  const size_t count = filters.size();
  check_side(op, "height", H);
  check_side(op, "width", W);
  if (i_powers.size() != count || forms.size() != count)
    fail(op, "i_powers and forms must have one entry for each of ", count, " filters, got ",
         i_powers.size(), " and ", forms.size());
  std::vector<PlaneGroup> groups;
  for (size_t i = 0; i < count; ++i) {
    check_type(op, {"filters", i}, filters[i], ScalarType::Float);
    check_cpu(op, {"filters", i}, filters[i]);
    check_rank(op, {"filters", i}, filters[i], 3, "[K, h, w]");
    check_i_power(op, {"i_powers", i}, i_powers[i]);
    PlaneGroup group{};
    group.K = filters[i].size(0);
    group.h = filters[i].size(1);
    group.w = filters[i].size(2);
    if (group.h < 1 || group.h > H || group.w < 1 || group.w > W)
      fail(op, "filters[", i, "] must have shape [K, h, w] with h <= ", H, " and w <= ", W,
           ", got ", shape_text(shape_of(filters[i])));
    check_side(op, {"height of filters", i}, group.h);
    check_side(op, {"width of filters", i}, group.w);
    group.row_blocks = row_blocks(group.h, H, simd_width);
    filters[i] = as_contiguous(filters[i]);
    group.filter = const_data<float>(filters[i]);
    group.i_power = static_cast<int>(i_powers[i]);
    group.form = check_form(op, {"forms", i}, forms[i], pairs_allowed);
    group.stride = group.form == Form::kReal ? 1 : 2;
    groups.push_back(group);
  }
  return groups;
}

struct SplitPlanes {
  Tensor planes;
  std::vector<Tensor> filters;
  PlaneArgs args;
  std::vector<Tensor> bands;  // results

  int64_t result_bytes() const {
    int64_t bytes = 0;
    for (const Tensor& t : bands) bytes += t.numel() * static_cast<int64_t>(t.element_size());
    return bytes;
  }
};

inline SplitPlanes prepare_split_planes(int64_t simd_width, const Tensor& planes,
                                        std::vector<Tensor> filters, const GroupSpec& spec) {
  const char* op = "split_planes";
  check_cpu(op, "planes", planes);
  check_type(op, "planes", planes, ScalarType::Float);
  check_rank(op, "planes", planes, 3, "[N, H, W]");
  PlaneArgs args{planes.size(0), planes.size(1), planes.size(2), {}};
  args.groups = make_plane_groups(op, simd_width, filters, spec, args.H, args.W, false);
  std::vector<Tensor> bands;
  for (PlaneGroup& group : args.groups) {
    const bool real = group.form == Form::kReal;
    bands.push_back(new_tensor(planes, {args.count, group.K, group.h, group.w},
                               real ? ScalarType::Float : ScalarType::ComplexFloat));
    group.bands_out = mutable_data<float>(bands.back());
  }
  return {as_contiguous(planes), filters, args, bands};
}

struct MergePlanes {
  std::vector<Tensor> bands, filters;
  PlaneArgs args;
  std::optional<Tensor> residual;  // [n, H, W]: plane j mod n is added to plane j
  Tensor planes;                   // result
};

inline MergePlanes prepare_merge_planes(int64_t simd_width, std::vector<Tensor> bands,
                                        std::vector<Tensor> filters, const GroupSpec& spec,
                                        std::optional<Tensor> residual, int64_t height,
                                        int64_t width) {
  const char* op = "merge_planes";
  if (bands.empty() || bands.size() != filters.size())
    fail(op, "bands must hold one tensor for each of ", filters.size(), " filters, got ",
         bands.size());
  check_rank(op, "bands[0]", bands[0], 4, "[N, K, h, w]");
  PlaneArgs args{bands[0].size(0), height, width, {}};
  args.groups = make_plane_groups(op, simd_width, filters, spec, height, width, true);
  for (size_t i = 0; i < bands.size(); ++i) {
    PlaneGroup& group = args.groups[i];
    const bool complex = is_complex(bands[i].scalar_type());
    check_cpu(op, {"bands", i}, bands[i]);
    check_type(op, {"bands", i}, bands[i],
               complex || group.form != Form::kReal ? ScalarType::ComplexFloat : ScalarType::Float);
    check_rank(op, {"bands", i}, bands[i], 4, "[N, K, h, w]");
    check_shape(op, {"bands", i}, bands[i], {args.count, group.num_stored(), group.h, group.w});
    bands[i] = as_contiguous(bands[i]);
    group.stride = complex ? 2 : 1;
    group.bands = const_data<float>(bands[i]);
  }
  if (residual.has_value()) {
    check_cpu(op, "residual", *residual);
    check_type(op, "residual", *residual, ScalarType::Float);
    check_rank(op, "residual", *residual, 3, "[n, H, W]");
    const int64_t n = residual->size(0);
    check_shape(op, "residual", *residual, {n, height, width});
    if (args.count > 0 && (n == 0 || args.count % n != 0))
      fail(op, "number of planes of residual must divide that of bands, ", args.count, ", got ", n);
    residual = as_contiguous(*residual);
  }
  const Tensor planes = new_tensor(bands[0], {args.count, height, width}, ScalarType::Float);
  return {bands, filters, args, residual, planes};
}

}  // namespace steerlens
