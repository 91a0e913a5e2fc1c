// The arguments of split_planes and merge_planes: one part is a group of bands of the same size, as in
// bands.h, its filters laid out for as many image rows at a time as a kernel has lanes.
#pragma once

#include <array>

#include "../checks.h"
#include "../math/bands.h"
#include "extrapolate.h"

namespace steerlens {

constexpr int64_t kMostLanes = 16;  // image rows, or columns, that are computed side by side

constexpr int64_t kLargestPrime = 61;  // of a side: such primes are radices of cpu/planes/fft.h
constexpr int64_t kLargestSide = int64_t{1} << 14;

inline bool side_in_range(int64_t n) { return n >= 1 && n <= kLargestSide; }

// Whether the FFT has this length.
inline bool side_fits(int64_t n) {
  if (!side_in_range(n)) return false;
  for (int64_t prime = 2; prime <= kLargestPrime; ++prime)
    while (n % prime == 0) n /= prime;
  return n == 1;
}

inline void check_side(const char* op, const char* name, int64_t n) {
  if (!side_in_range(n)) fail(op, name, " must be 1 to ", kLargestSide, ", got ", n);
  if (!side_fits(n))
    fail(op, name, " must have no prime factor above ", kLargestPrime, ", got ", n);
}

constexpr int64_t panels_of(int64_t n, int64_t lanes) { return (n + lanes - 1) / lanes; }

// So many image rows, a lane each, of which a band has at least one; -1 where it has not.
struct RowPanel {
  int64_t index;
  std::array<int64_t, kMostLanes> rows;
};

inline std::vector<RowPanel> row_panels(int64_t h, int64_t H, int64_t lanes) {
  std::vector<RowPanel> out;
  for (int64_t index = 0; index < panels_of(H, lanes); ++index) {
    RowPanel panel{index, {}};
    bool any = false;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const int64_t Y = index * lanes + lane;
      panel.rows[lane] = Y < H ? band_row(Y, h, H) : -1;
      any = any || panel.rows[lane] >= 0;
    }
    if (any) out.push_back(panel);
  }
  return out;
}

// How bands lie in memory: Form::kReal, their real parts alone (merge_planes reads them from complex
// bands, too); kBoth, complex ones; kPairs, the real parts of two orientations as one complex number.
struct PlanePart {
  const float* filter;  // [K, panels, w, lanes]; zeros where the band has no row
  float* bands_out;     // split_planes: [N, K, h, w]
  const float* bands;   // merge_planes: [N, stored, h, w]
  int64_t K, h, w;
  int turns;  // multiply by i^turns
  Form form;
  int stride;  // floats per sample of the bands
  std::vector<RowPanel> panels;

  bool paired() const { return form != Form::kBoth; }
  // Whether the i-th transform is that of a real band without a partner.
  bool alone(int64_t i) const { return paired() && 2 * i + 1 == K; }
  int64_t transforms() const { return paired() ? pairs_of(K) : K; }  // complex FFTs of a plane
  int64_t stored() const { return form == Form::kPairs ? pairs_of(K) : K; }
};

struct PlaneBank {
  int64_t count, H, W;  // planes
  std::vector<PlanePart> parts;
};

inline Form check_form(const char* op, int64_t form, bool pairs) {
  if (form < 0 || form > (pairs ? 2 : 1))
    fail(op, "forms must be 0 (real), 1 (both quadratures)", pairs ? " or 2 (pairs)" : "", ", got ",
         form);
  return static_cast<Form>(form);
}

inline void check_cpu(const char* op, const char* name, const Tensor& t) {
  if (t.is_cuda()) fail(op, name, " must be on the CPU");
}

// Parts without bands; filters are made contiguous in place.
inline std::vector<PlanePart> plane_parts(const char* op, int64_t lanes,
                                          std::vector<Tensor>& filters,
                                          const std::vector<int64_t>& heights,
                                          const std::vector<int64_t>& turns,
                                          const std::vector<int64_t>& forms, int64_t H, int64_t W,
                                          bool merging) {
  const size_t count = filters.size();
  check_side(op, "height", H);
  check_side(op, "width", W);
  if (heights.size() != count || turns.size() != count || forms.size() != count)
    fail(op, "heights, turns and forms must have one entry for each of ", count, " filters, got ",
         heights.size(), ", ", turns.size(), " and ", forms.size());
  std::vector<PlanePart> parts;
  for (size_t i = 0; i < count; ++i) {
    check_type(op, "filters[i]", filters[i], ScalarType::Float);
    check_cpu(op, "filters[i]", filters[i]);
    check_rank(op, "filters[i]", filters[i], 4, "[K, panels, w, lanes]");
    if (heights[i] < 1 || heights[i] > H || turns[i] < 0 || turns[i] > 3)
      fail(op, "heights must be 1 to ", H, " and turns 0 to 3, got ", heights[i], " and ",
           turns[i]);
    PlanePart part{};
    part.panels = row_panels(heights[i], H, lanes);
    part.K = filters[i].size(0);
    part.h = heights[i];
    part.w = filters[i].size(2);
    if (part.w < 1 || part.w > W || filters[i].size(3) != lanes ||
        filters[i].size(1) != static_cast<int64_t>(part.panels.size()))
      fail(op, "filters[", i, "] must be [K, ", part.panels.size(), ", w, ", lanes,
           "] with w <= ", W, ", got ", shape_text(shape_of(filters[i])));
    check_side(op, "heights", part.h);
    check_side(op, "filters' width", part.w);
    filters[i] = packed(filters[i]);
    part.filter = read<float>(filters[i]);
    part.turns = static_cast<int>(turns[i]);
    part.form = check_form(op, forms[i], merging);
    part.stride = part.form == Form::kReal ? 1 : 2;
    parts.push_back(part);
  }
  return parts;
}

template <typename Run>
std::vector<Tensor> split_planes_with(int64_t lanes, Tensor planes, std::vector<Tensor> filters,
                                      const std::vector<int64_t>& heights,
                                      const std::vector<int64_t>& turns,
                                      const std::vector<int64_t>& forms, const Run& run) {
  const char* op = "split_planes";
  check_cpu(op, "planes", planes);
  check_type(op, "planes", planes, ScalarType::Float);
  check_rank(op, "planes", planes, 3, "[N, H, W]");
  planes = packed(planes);
  PlaneBank bank{planes.size(0), planes.size(1), planes.size(2), {}};
  bank.parts = plane_parts(op, lanes, filters, heights, turns, forms, bank.H, bank.W, false);
  std::vector<Tensor> out;
  int64_t bytes = 0;
  for (PlanePart& part : bank.parts) {
    const ScalarType type = part.form == Form::kReal ? ScalarType::Float : ScalarType::ComplexFloat;
    out.push_back(new_tensor(planes, {bank.count, part.K, part.h, part.w}, type));
    part.bands_out = write<float>(out.back());
    bytes += out.back().numel() * out.back().element_size();
  }
  if (bytes > 0) run(bank, read<float>(planes), bytes);
  return out;
}

template <typename Run>
Tensor merge_planes_with(int64_t lanes, std::vector<Tensor> bands, std::vector<Tensor> filters,
                         const std::vector<int64_t>& heights, const std::vector<int64_t>& turns,
                         const std::vector<int64_t>& forms, std::optional<Tensor> rest,
                         int64_t height, int64_t width, const Run& run) {
  const char* op = "merge_planes";
  if (bands.empty() || bands.size() != filters.size())
    fail(op, "bands must hold one tensor for each of ", filters.size(), " filters, got ",
         bands.size());
  check_rank(op, "bands[0]", bands[0], 4, "[N, K, h, w]");
  PlaneBank bank{bands[0].size(0), height, width, {}};
  bank.parts = plane_parts(op, lanes, filters, heights, turns, forms, height, width, true);
  for (size_t i = 0; i < bands.size(); ++i) {
    PlanePart& part = bank.parts[i];
    const bool complex = is_complex(bands[i].scalar_type());
    check_cpu(op, "bands[i]", bands[i]);
    check_type(op, "bands[i]", bands[i],
               complex || part.form != Form::kReal ? ScalarType::ComplexFloat : ScalarType::Float);
    check_rank(op, "bands[i]", bands[i], 4, "[N, K, h, w]");
    check_shape(op, "bands[i]", bands[i], {bank.count, part.stored(), part.h, part.w});
    bands[i] = packed(bands[i]);
    part.stride = complex ? 2 : 1;
    part.bands = read<float>(bands[i]);
  }
  if (rest.has_value()) {
    check_cpu(op, "rest", *rest);
    check_type(op, "rest", *rest, ScalarType::Float);
    check_rank(op, "rest", *rest, 3, "[n, H, W]");
    const int64_t n = rest->size(0);
    check_shape(op, "rest", *rest, {n, height, width});
    if (bank.count > 0 && (n == 0 || bank.count % n != 0))
      fail(op, "rest's first size must divide that of the bands, ", bank.count, ", got ", n);
    rest = packed(*rest);
  }
  Tensor out = new_tensor(bands[0], {bank.count, height, width}, ScalarType::Float);
  if (bank.count > 0)
    run(bank, rest.has_value() ? read<float>(*rest) : nullptr, rest.has_value() ? rest->size(0) : 1,
        write<float>(out));
  return out;
}

}  // namespace steerlens
