// split_planes: what split_bands does, and its FFTs, plane by plane, so that no spectrum leaves a core's
// caches. It and merge_planes are the CPU's alone, float32 and x86-64-v4 (on devices the FFT is a
// library's, between kernels); `planes_supported` tells where they can be had.
#include "../args/planes.h"

#include "clones.h"
#include "planes.h"

#if STEERLENS_HAS_LANES
#include "steps.h"

STEERLENS_LANES_BEGIN
namespace steerlens {
namespace {

struct Split {
  const PlaneBank& bank;
  const Ffts& ffts;
  const float* planes;
  bool streamed;
  std::vector<RowPanel> image_panels;

  template <typename Steps>
  void plane(int64_t n, CplxLanes* spectrum, CplxLanes* between, const Steps& steps) const {
    transform(planes + n * bank.H * bank.W, spectrum, between, steps);
    for (const PlanePart& part : bank.parts)
      for (int64_t i = 0; i < part.transforms(); ++i) band(part, n, i, spectrum, between, steps);
  }

  // spectrum[panel * W + x], the lanes being rows.
  template <typename Steps>
  void transform(const float* plane, CplxLanes* spectrum, CplxLanes* between,
                 const Steps& steps) const {
    const int64_t H = bank.H, W = bank.W;
    const Fft &columns = ffts.of.at(H), &rows = ffts.of.at(W);
    steps(pairs_of(panels_of(W)), [&](int64_t q, Lines& lines) {
      const auto load = [&](int64_t y, int64_t x)
                            SL_LAMBDA { return load_lanes(plane + y * W + x, W - x); };
      real_columns_forth(columns, lines, load, W, q, between);
    });
    steps(panels_of(H), [&](int64_t p, Lines& lines) {
      CplxLanes* out = spectrum + p * W;
      const auto write = [out](int64_t x, CplxLanes value) SL_LAMBDA { out[x] = value; };
      rows_forth(rows, lines, between, H, image_panels[p], write);
    });
  }

  template <typename Steps>
  void band(const PlanePart& part, int64_t n, int64_t i, const CplxLanes* spectrum,
            CplxLanes* between, const Steps& steps) const {
    const Fft &columns = ffts.of.at(part.h), &rows = ffts.of.at(part.w);
    steps(static_cast<int64_t>(part.panels.size()), [&](int64_t p, Lines& lines) {
      filter_rows(part, rows, i, p, spectrum + part.panels[p].index * bank.W, lines,
                  between + p * padded(part.w));
    });
    if (part.form == Form::kBoth) {
      steps(panels_of(part.w), [&](int64_t block, Lines& lines) {
        write_complex(part, columns, n, i, block, between, lines);
      });
    } else if (!part.alone(i)) {
      steps(panels_of(part.w), [&](int64_t block, Lines& lines) {
        write_pair(part, columns, n, i, block, between, lines);
      });
    } else {
      steps(pairs_of(panels_of(part.w)),
            [&](int64_t q, Lines& lines) { write_single(part, columns, n, i, q, between, lines); });
    }
  }

  void filter_rows(const PlanePart& part, const Fft& fft, int64_t i, int64_t p,
                   const CplxLanes* spectrum, Lines& lines, CplxLanes* out) const {
    const FilterRows filter(part, i, p);
    if (filter.zero()) {  // zeros, whatever the plane holds there
      for (int64_t x = 0; x < part.w; ++x) out[x] = CplxLanes{};
      return;
    }
    const auto read = [&](int64_t x) SL_LAMBDA {
      return filter.at(x, 1) * spectrum[image_column(x, part.w, bank.W)];
    };
    rows_back(fft, lines, read, out);
  }

  void write_complex(const PlanePart& part, const Fft& fft, int64_t n, int64_t k, int64_t block,
                     const CplxLanes* between, Lines& lines) const {
    const int64_t x = block * kLanes, count = std::min(part.w - x, kLanes);
    float* out = part.bands_out + 2 * ((n * part.K + k) * part.h * part.w + x);
    const auto write = [&](int64_t y, CplxLanes value) SL_LAMBDA {
      float* at = out + 2 * y * part.w;
      put_lanes(at, zip_low(value.re, value.im), 2 * count, streamed);
      put_lanes(at + kLanes, zip_high(value.re, value.im), 2 * count - kLanes, streamed);
    };
    columns_back(fft, lines, between, part.w, part.panels, block, write);
  }

  // Two orientations, the parts of one inverse transform.
  void write_pair(const PlanePart& part, const Fft& fft, int64_t n, int64_t i, int64_t block,
                  const CplxLanes* between, Lines& lines) const {
    const int64_t x = block * kLanes, area = part.h * part.w;
    float* out = part.bands_out + (n * part.K + 2 * i) * area + x;
    const auto write = [&](int64_t y, CplxLanes value) SL_LAMBDA {
      put_lanes(out + y * part.w, value.re, part.w - x, streamed);
      put_lanes(out + area + y * part.w, value.im, part.w - x, streamed);
    };
    columns_back(fft, lines, between, part.w, part.panels, block, write);
  }

  // One without a partner.
  void write_single(const PlanePart& part, const Fft& fft, int64_t n, int64_t i, int64_t q,
                    const CplxLanes* between, Lines& lines) const {
    const int64_t x = 2 * q * kLanes;
    float* out = part.bands_out + (n * part.K + 2 * i) * part.h * part.w + x;
    const auto write = [&](int64_t y, CplxLanes value) SL_LAMBDA {
      put_lanes(out + y * part.w, value.re, part.w - x, streamed);
      put_lanes(out + kLanes + y * part.w, value.im, part.w - x - kLanes, streamed);
    };
    real_columns_back(fft, lines, between, part.w, part.panels, q, write);
  }
};

std::vector<Tensor> split_planes(Tensor planes, std::vector<Tensor> filters,
                                 std::vector<int64_t> heights, std::vector<int64_t> turns,
                                 std::vector<int64_t> forms) {
  const auto run = [](const PlaneBank& bank, const float* planes, int64_t bytes) {
    const Ffts ffts(bank);
    const Split split{bank, ffts, planes, bytes > kStreamedBytes, row_panels(bank.H, bank.H)};
    const auto work = [&](int64_t n, CplxLanes* spectrum, CplxLanes* between, const auto& steps) {
      split.plane(n, spectrum, between, steps);
    };
    for_planes(bank, ffts, work);
  };
  return split_planes_with(planes, filters, heights, turns, forms, run);
}

}  // namespace
}  // namespace steerlens
STEERLENS_LANES_END

namespace steerlens {

bool planes_supported() { return __builtin_cpu_supports("x86-64-v4"); }

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CPU, m) {
  if (planes_supported()) m.impl("split_planes", TORCH_BOX(&split_planes));
}

}  // namespace steerlens

#else

namespace steerlens {
bool planes_supported() { return false; }
}  // namespace steerlens

#endif
