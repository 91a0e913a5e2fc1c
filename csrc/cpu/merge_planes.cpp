// merge_planes: what merge_bands does, and its FFTs, plane by plane; see split_planes.
#include "../args/planes.h"

#include "clones.h"
#include "planes.h"

#if STEERLENS_HAS_LANES
#include "steps.h"

STEERLENS_LANES_BEGIN
namespace steerlens {
namespace {

struct Merge {
  const PlaneBank& bank;
  const Ffts& ffts;
  const float* rest;
  int64_t rest_planes;
  float* out;
  bool streamed;
  std::vector<RowPanel> image_panels;

  template <typename Steps>
  void plane(int64_t n, CplxLanes* spectrum, CplxLanes* between, const Steps& steps) const {
    const int64_t size = panels_of(bank.H) * bank.W;
    for (int64_t i = 0; i < size; ++i) spectrum[i] = CplxLanes{};
    for (const PlanePart& part : bank.parts)
      for (int64_t i = 0; i < part.transforms(); ++i) {
        columns(part, n, i, between, steps);
        steps(static_cast<int64_t>(part.panels.size()), [&](int64_t p, Lines& lines) {
          add_rows(part, i, p, between, lines, spectrum + part.panels[p].index * bank.W);
        });
      }
    image(n, spectrum, between, steps);
  }

  // One complex plane of a part's, of which real bands are both parts: its columns' transforms.
  template <typename Steps>
  void columns(const PlanePart& part, int64_t n, int64_t i, CplxLanes* between,
               const Steps& steps) const {
    const bool alone = part.alone(i);
    const int64_t band = part.form == Form::kReal ? n * part.K + 2 * i : n * part.stored() + i;
    const float* from = part.bands + part.stride * band * part.h * part.w;
    const int64_t blocks = panels_of(part.w);
    steps(alone ? pairs_of(blocks) : blocks, [&](int64_t block, Lines& lines) {
      if (alone) return columns_alone(part, from, block, lines, between);
      CplxLanes* to = between + block * part.h;
      if (part.form == Form::kReal) return columns_of_two(part, from, block, lines, to);
      columns_of_one(part, from, block, lines, to);
    });
  }

  // Of a complex band, or a pair.
  void columns_of_one(const PlanePart& part, const float* from, int64_t block, Lines& lines,
                      CplxLanes* to) const {
    const int64_t x = block * kLanes;
    const auto read = [&](int64_t y) SL_LAMBDA {
      return load_complex(from + 2 * (y * part.w + x), part.w - x);
    };
    columns_forth(ffts.of.at(part.h), lines, read, to);
  }

  // Of the real parts of two orientations.
  void columns_of_two(const PlanePart& part, const float* from, int64_t block, Lines& lines,
                      CplxLanes* to) const {
    const int64_t x = block * kLanes, next = part.stride * part.h * part.w;
    const auto read = [&](int64_t y) SL_LAMBDA {
      const float* at = from + part.stride * (y * part.w + x);
      return CplxLanes{load_real(part, at, part.w - x), load_real(part, at + next, part.w - x)};
    };
    columns_forth(ffts.of.at(part.h), lines, read, to);
  }

  // Of one's that has no partner: two blocks of columns.
  void columns_alone(const PlanePart& part, const float* from, int64_t q, Lines& lines,
                     CplxLanes* between) const {
    const auto load = [&](int64_t y, int64_t x) SL_LAMBDA {
      return load_real(part, from + part.stride * (y * part.w + x), part.w - x);
    };
    real_columns_forth(ffts.of.at(part.h), lines, load, part.w, q, between);
  }

  SL_FN static Lanes load_real(const PlanePart& part, const float* from, int64_t count) {
    return part.stride == 2 ? load_complex(from, count).re : load_lanes(from, count);
  }

  // The rows' transforms, with the conjugate filter, added to the image's spectrum.
  void add_rows(const PlanePart& part, int64_t i, int64_t p, const CplxLanes* between, Lines& lines,
                CplxLanes* spectrum) const {
    const FilterRows filter(part, i, p);
    const auto write = [&](int64_t x, CplxLanes value) SL_LAMBDA {
      CplxLanes& to = spectrum[image_column(x, part.w, bank.W)];
      to = to + filter.at(x, -1) * value;
    };
    rows_forth(ffts.of.at(part.w), lines, between, part.h, part.panels[p], write);
  }

  template <typename Steps>
  void image(int64_t n, const CplxLanes* spectrum, CplxLanes* between, const Steps& steps) const {
    const int64_t H = bank.H, W = bank.W;
    const Fft &columns = ffts.of.at(H), &rows = ffts.of.at(W);
    steps(panels_of(H), [&](int64_t p, Lines& lines) {
      const CplxLanes* from = spectrum + p * W;
      rows_back(
          rows, lines, [from](int64_t x) SL_LAMBDA { return from[x]; }, between + p * padded(W));
    });
    steps(pairs_of(panels_of(W)), [&](int64_t q, Lines& lines) {
      const auto write = [&](int64_t y, CplxLanes value) SL_LAMBDA {
        put(n, y, 2 * q * kLanes, value.re);
        put(n, y, 2 * q * kLanes + kLanes, value.im);
      };
      real_columns_back(columns, lines, between, W, image_panels, q, write);
    });
  }

  SL_FN void put(int64_t n, int64_t y, int64_t x, Lanes value) const {
    if (x >= bank.W) return;
    const int64_t at = y * bank.W + x, area = bank.H * bank.W, count = bank.W - x;
    if (rest) value += load_lanes(rest + n % rest_planes * area + at, count);
    put_lanes(out + n * area + at, value, count, streamed);
  }
};

Tensor merge_planes(std::vector<Tensor> bands, std::vector<Tensor> filters,
                    std::vector<int64_t> heights, std::vector<int64_t> turns,
                    std::vector<int64_t> forms, std::optional<Tensor> rest, int64_t height,
                    int64_t width) {
  const auto run = [](const PlaneBank& bank, const float* rest, int64_t rest_planes, float* out) {
    const Ffts ffts(bank);
    const int64_t bytes = bank.count * bank.H * bank.W * static_cast<int64_t>(sizeof(float));
    const Merge merge{
        bank, ffts, rest, rest_planes, out, bytes > kStreamedBytes, row_panels(bank.H, bank.H)};
    const auto work = [&](int64_t n, CplxLanes* spectrum, CplxLanes* between, const auto& steps) {
      merge.plane(n, spectrum, between, steps);
    };
    for_planes(bank, ffts, work);
  };
  return merge_planes_with(bands, filters, heights, turns, forms, rest, height, width, run);
}

}  // namespace
}  // namespace steerlens
STEERLENS_LANES_END

namespace steerlens {

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CPU, m) {
  if (planes_supported()) m.impl("merge_planes", TORCH_BOX(&merge_planes));
}

}  // namespace steerlens
#endif
