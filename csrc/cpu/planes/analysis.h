// The analysis of one plane: its spectrum, and from that its bands, which a sink takes by columns:
//   complex(k, block, y, CplxLanes)   samples of row y of orientation k, from column kLanes block on
//   real(k, block, y, Lanes)
//   two(k, block, y, CplxLanes)       real samples of that block, and of the next one
#pragma once

#include "steps.h"

STEERLENS_LANES_BEGIN
namespace steerlens {
namespace {

struct Analysis : Transforms {
  using Transforms::Transforms;

  // spectrum[panel * W + x], the lanes being rows.
  template <typename Steps>
  void transform(const float* plane, CplxLanes* spectrum, CplxLanes* between,
                 const Steps& steps) const {
    const int64_t H = bank.H, W = bank.W;
    const Fft &columns = ffts.of.at(H), &rows = ffts.of.at(W);
    steps(pairs_of(panels_of(W)), [&](int64_t q, Lines& lines) {
      const float* columns_of = plane + 2 * q * kLanes;
      const int64_t count = W - 2 * q * kLanes;
      const auto read = [&](int64_t y) SL_LAMBDA {
        const float* from = columns_of + y * W;
        return load_two(from, count);
      };
      real_columns_forth(columns, lines, read, W, q, between);
    });
    steps(panels_of(H), [&](int64_t p, Lines& lines) {
      CplxLanes* out = spectrum + p * W;
      const auto write = [out](int64_t x, CplxLanes value) SL_LAMBDA { out[x] = value; };
      rows_forth(rows, lines, between, H, image_panels[p], write);
    });
  }

  template <typename Steps, typename Sink>
  void bands(const PlanePart& part, const CplxLanes* spectrum, CplxLanes* between,
             const Steps& steps, const Sink& sink) const {
    for (int64_t i = 0; i < part.transforms(); ++i) {
      steps(static_cast<int64_t>(part.panels.size()), [&](int64_t p, Lines& lines) {
        filter_rows(part, i, p, spectrum + part.panels[p].index * bank.W, lines,
                    between + p * padded(part.w));
      });
      const int64_t blocks = panels_of(part.w);
      steps(part.alone(i) ? pairs_of(blocks) : blocks, [&](int64_t block, Lines& lines) {
        if (part.form == Form::kBoth) return complex_band(part, i, block, between, lines, sink);
        if (part.alone(i)) return single_band(part, i, block, between, lines, sink);
        two_bands(part, i, block, between, lines, sink);
      });
    }
  }

 private:
  void filter_rows(const PlanePart& part, int64_t i, int64_t p, const CplxLanes* spectrum,
                   Lines& lines, CplxLanes* out) const {
    const FilterRows filter(part, i, p);
    if (filter.zero()) {  // zeros, whatever the plane holds there
      for (int64_t x = 0; x < part.w; ++x) out[x] = CplxLanes{};
      return;
    }
    const auto read = [&](int64_t x) SL_LAMBDA {
      return filter.at(x, 1) * spectrum[image_column(x, part.w, bank.W)];
    };
    rows_back(ffts.of.at(part.w), lines, read, out);
  }

  template <typename Sink>
  void complex_band(const PlanePart& part, int64_t k, int64_t block, const CplxLanes* between,
                    Lines& lines, const Sink& sink) const {
    const auto write = [&](int64_t y, CplxLanes value)
                           SL_LAMBDA { sink.complex(k, block, y, value); };
    columns_back(ffts.of.at(part.h), lines, between, part.w, part.panels, block, write);
  }

  // Two orientations, the parts of one inverse transform.
  template <typename Sink>
  void two_bands(const PlanePart& part, int64_t i, int64_t block, const CplxLanes* between,
                 Lines& lines, const Sink& sink) const {
    const auto write = [&](int64_t y, CplxLanes value) SL_LAMBDA {
      sink.real(2 * i, block, y, value.re);
      sink.real(2 * i + 1, block, y, value.im);
    };
    columns_back(ffts.of.at(part.h), lines, between, part.w, part.panels, block, write);
  }

  // One without a partner, two blocks at a time.
  template <typename Sink>
  void single_band(const PlanePart& part, int64_t i, int64_t q, const CplxLanes* between,
                   Lines& lines, const Sink& sink) const {
    const auto write = [&](int64_t y, CplxLanes value)
                           SL_LAMBDA { sink.two(2 * i, 2 * q, y, value); };
    real_columns_back(ffts.of.at(part.h), lines, between, part.w, part.panels, q, write);
  }
};

}  // namespace
}  // namespace steerlens
STEERLENS_LANES_END
