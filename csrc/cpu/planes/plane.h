// Two-dimensional transforms of one plane in panels: columns side by side, one in each lane, then rows side
// by side, and back. Between the two a plane lies as lines: `lines[panel * h + y]` after the columns
// forth, `lines[i * padded(w) + x]` after the rows back.
#pragma once

#include "../../args/planes.h"
#include "fft.h"

STEERLENS_LANES_BEGIN
namespace steerlens {
namespace {

constexpr int64_t padded(int64_t n) { return panels_of(n) * kLanes; }

// A panel's rows of lines as its lanes: line[x] for x in [0, padded(w)).
SL_FN void gather_rows(const CplxLanes* from, int64_t h, int64_t w, const RowPanel& panel,
                       CplxLanes* line) {
  for (int64_t block = 0; block < panels_of(w); ++block) {
    Lanes re[kLanes], im[kLanes];
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const int64_t y = panel.rows[lane];
      const CplxLanes value = y < 0 ? CplxLanes{} : from[block * h + y];
      re[lane] = value.re;
      im[lane] = value.im;
    }
    transpose(re);
    transpose(im);
    for (int64_t i = 0; i < kLanes; ++i) line[block * kLanes + i] = {re[i], im[i]};
  }
}

// The way back: a block of columns, from x0, of lines [panels, padded(w)] as line[y] for y in [0, h).
SL_FN void gather_columns(const CplxLanes* from, int64_t w, const std::vector<RowPanel>& panels,
                          int64_t x0, CplxLanes* line) {
  for (size_t p = 0; p < panels.size(); ++p) {
    const CplxLanes* source = from + p * padded(w) + x0;
    Lanes re[kLanes], im[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      const CplxLanes value = x0 + i < w ? source[i] : CplxLanes{};
      re[i] = value.re;
      im[i] = value.im;
    }
    transpose(re);
    transpose(im);
    for (int64_t lane = 0; lane < kLanes; ++lane)
      if (panels[p].rows[lane] >= 0) line[panels[p].rows[lane]] = {re[lane], im[lane]};
  }
}

// Columns forth, of complex values: read(y) -> out[y].
template <typename Read>
SL_FN void columns_forth(const Fft& fft, Lines& lines, const Read& read, CplxLanes* out) {
  run_fft(fft, lines, read, [out](int64_t y, CplxLanes value) SL_LAMBDA { out[y] = value; });
}

// The same of real values, of blocks 2q and 2q + 1 of w columns in one transform: read(y) has the one as its
// real and the other as its imaginary part. From Z = A + i B, and A and B Hermitian,
// 2 A(y) = Z(y) + conj Z(-y) and 2 i B(y) = Z(y) - conj Z(-y).
template <typename Read>
SL_FN void real_columns_forth(const Fft& fft, Lines& lines, const Read& read, int64_t w, int64_t q,
                              CplxLanes* out) {
  CplxLanes *first = out + 2 * q * fft.size, *line = lines.line.get();
  CplxLanes* second = 2 * q + 1 < panels_of(w) ? first + fft.size : nullptr;
  columns_forth(fft, lines, read, line);
  for (int64_t y = 0; y < fft.size; ++y) {
    const CplxLanes z = line[y], mirrored = line[y == 0 ? 0 : fft.size - y];
    first[y] = {0.5f * (z.re + mirrored.re), 0.5f * (z.im - mirrored.im)};
    if (second) second[y] = {0.5f * (z.im + mirrored.im), 0.5f * (mirrored.re - z.re)};
  }
}

// One panel of rows of a part's i-th filter: of a pair's filters, m + i m'.
struct FilterRows {
  const float *first, *second;
  int64_t w;
  Cplx<float> turn;

  SL_FN FilterRows(const PlanePart& part, int64_t i, int64_t panel)
      : w(part.w), turn(quarter_turns<float>(part.turns)) {
    const int64_t panels = part.panels.size(), size = part.w * kLanes;
    first = part.filter + ((part.paired() ? 2 * i : i) * panels + panel) * size;
    second = part.paired() && !part.alone(i) ? first + panels * size : nullptr;
  }

  // i^turns (m + i sign m').
  SL_FN CplxLanes at(int64_t x, float sign) const {
    CplxLanes f = {load_lanes(first + x * kLanes), {}};
    if (second) f.im = sign * load_lanes(second + x * kLanes);
    return f * turn;
  }
  SL_FN bool zero() const { return zero(first) && (!second || zero(second)); }

 private:
  SL_FN bool zero(const float* filter) const {
    for (int64_t x = 0; x < w; ++x) {
      bool any = false;
      for (int64_t lane = 0; lane < kLanes; ++lane) any |= filter[x * kLanes + lane] != 0;
      if (any) return false;
    }
    return true;
  }
};

// Rows forth: write(x, value) for a panel of rows.
template <typename Write>
SL_FN void rows_forth(const Fft& fft, Lines& lines, const CplxLanes* from, int64_t h,
                      const RowPanel& panel, const Write& write) {
  CplxLanes* line = lines.line.get();
  gather_rows(from, h, fft.size, panel, line);
  run_fft(fft, lines, [line](int64_t x) SL_LAMBDA { return line[x]; }, write);
}

// Rows back, not normalised: an inverse transform is a forward one of swapped parts.
template <typename Read>
SL_FN void rows_back(const Fft& fft, Lines& lines, const Read& read, CplxLanes* out) {
  run_fft(
      fft, lines, [&](int64_t x) SL_LAMBDA { return swapped(read(x)); },
      [out](int64_t x, CplxLanes value) SL_LAMBDA { out[x] = swapped(value); });
}

// Columns back: write(y, value) for the columns of a block.
template <typename Write>
SL_FN void columns_back(const Fft& fft, Lines& lines, const CplxLanes* from, int64_t w,
                        const std::vector<RowPanel>& panels, int64_t block, const Write& write) {
  CplxLanes* line = lines.line.get();
  gather_columns(from, w, panels, block * kLanes, line);
  run_fft(
      fft, lines, [line](int64_t y) SL_LAMBDA { return swapped(line[y]); },
      [&](int64_t y, CplxLanes value) SL_LAMBDA { write(y, swapped(value)); });
}

// The real parts alone, of two blocks in one transform: write(y, {block 2q, block 2q + 1}). A real part
// is what the Hermitian part of a spectrum gives.
template <typename Write>
SL_FN void real_columns_back(const Fft& fft, Lines& lines, const CplxLanes* from, int64_t w,
                             const std::vector<RowPanel>& panels, int64_t q, const Write& write) {
  CplxLanes *a = lines.line.get(), *b = a + fft.size;
  const bool both = 2 * q + 1 < panels_of(w);
  gather_columns(from, w, panels, 2 * q * kLanes, a);
  if (both) gather_columns(from, w, panels, (2 * q + 1) * kLanes, b);
  const auto read = [&](int64_t y) SL_LAMBDA {
    const int64_t opposite = y == 0 ? 0 : fft.size - y;
    const CplxLanes p = a[y], q = a[opposite];
    CplxLanes sum = {0.5f * (p.re + q.re), 0.5f * (p.im - q.im)};
    if (both) {
      const CplxLanes r = b[y], s = b[opposite];
      sum = {sum.re - 0.5f * (r.im - s.im), sum.im + 0.5f * (r.re + s.re)};
    }
    return swapped(sum);
  };
  run_fft(fft, lines, read,
          [&](int64_t y, CplxLanes value) SL_LAMBDA { write(y, swapped(value)); });
}

}  // namespace
}  // namespace steerlens
STEERLENS_LANES_END
