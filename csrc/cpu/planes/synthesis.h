// The synthesis of one plane: bands, which a source gives by columns, are added to a spectrum; and from that
// the plane, two blocks of a row at a time: put(block, y, CplxLanes). What a source gives reads row y of a block:
//   complex(i, block, lines)   of complex band i, or pair i
//   two(i, block, lines)       of orientations 2 i and 2 i + 1, as real and imaginary part
//   single(i, q, lines)        of orientation 2 i, blocks 2 q and 2 q + 1, likewise
#pragma once

#include "steps.h"

STEERLENS_LANES_BEGIN
namespace steerlens {
namespace {

struct Synthesis : Transforms {
  using Transforms::Transforms;

  template <typename Steps>
  void clear(CplxLanes* spectrum, const Steps& steps) const {
    steps(panels_of(bank.H), [&](int64_t p, Lines&) {
      for (int64_t x = 0; x < bank.W; ++x) spectrum[p * bank.W + x] = CplxLanes{};
    });
  }

  template <typename Steps, typename Source>
  void add(const PlanePart& part, CplxLanes* spectrum, CplxLanes* between, const Steps& steps,
           const Source& source) const {
    for (int64_t i = 0; i < part.transforms(); ++i) {
      columns(part, i, between, steps, source);
      steps(static_cast<int64_t>(part.panels.size()), [&](int64_t p, Lines& lines) {
        add_rows(part, i, p, between, lines, spectrum + part.panels[p].index * bank.W);
      });
    }
  }

  template <typename Steps, typename Put>
  void image(const CplxLanes* spectrum, CplxLanes* between, const Steps& steps,
             const Put& put) const {
    const int64_t H = bank.H, W = bank.W;
    const Fft &columns = ffts.of.at(H), &rows = ffts.of.at(W);
    steps(panels_of(H), [&](int64_t p, Lines& lines) {
      const CplxLanes* from = spectrum + p * W;
      rows_back(
          rows, lines, [from](int64_t x) SL_LAMBDA { return from[x]; }, between + p * padded(W));
    });
    steps(pairs_of(panels_of(W)), [&](int64_t q, Lines& lines) {
      const auto write = [&](int64_t y, CplxLanes value) SL_LAMBDA { put(2 * q, y, value); };
      real_columns_back(columns, lines, between, W, image_panels, q, write);
    });
  }

 private:
  // One complex plane of a part's: its columns' transforms.
  template <typename Steps, typename Source>
  void columns(const PlanePart& part, int64_t i, CplxLanes* between, const Steps& steps,
               const Source& source) const {
    const Fft& fft = ffts.of.at(part.h);
    const int64_t blocks = panels_of(part.w);
    steps(part.alone(i) ? pairs_of(blocks) : blocks, [&](int64_t block, Lines& lines) {
      CplxLanes* to = between + block * part.h;
      if (part.alone(i))
        real_columns_forth(fft, lines, source.single(i, block, lines), part.w, block, between);
      else if (part.form == Form::kReal)
        columns_forth(fft, lines, source.two(i, block, lines), to);
      else
        columns_forth(fft, lines, source.complex(i, block, lines), to);
    });
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
};

}  // namespace
}  // namespace steerlens
STEERLENS_LANES_END
