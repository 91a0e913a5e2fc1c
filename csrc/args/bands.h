// The arguments of split_bands and merge_bands, checked and turned into plain structs that the CPU
// loops and the CUDA kernels read.
#pragma once

#include "../checks.h"
#include "../math/bands.h"

namespace steerlens {

// One group of bands of the same size: an oriented scale (K bands) or a residual (K = 1).
template <typename T>
struct BandGroup {
  const T* mask;    // [K, h, columns]
  Cplx<T>* data;    // [planes, stored, h, columns]; only read by merge_bands
  int64_t planes;   // merge_bands: plane n reads data[n % planes]
  int64_t K, h, w;  // the band's samples
  int64_t stored;   // bands of data: K, or ceil(K/2) where real ones are in pairs
  int64_t columns;  // w (full layout) or w/2+1 (half layout)
  int turns;        // multiply by i^turns
};

// As many scales as a side of 2^28 pixels holds, and both residuals.
constexpr int kMaxGroups = 28;

template <typename T>
struct Bank {
  BandGroup<T> groups[kMaxGroups];
  int count;
  int64_t planes, H, W;
  bool whole;         // the spectrum is a whole one, [H, W]
  bool paired;        // real bands are in pairs
  int64_t columns;    // W (whole) or W/2+1
  Cplx<T>* spectrum;  // [planes, H, columns]; only read by split_bands
};

inline void check_groups(const char* op, const std::vector<Tensor>& masks,
                         const std::vector<int64_t>& turns, const std::vector<int64_t>& widths,
                         int64_t H, int64_t W, bool full) {
  if (masks.empty() || masks.size() > kMaxGroups)
    fail(op, "masks must hold 1 to ", kMaxGroups, " tensors, got ", masks.size());
  if (turns.size() != masks.size() || widths.size() != masks.size())
    fail(op, "turns and widths must have one entry for each of ", masks.size(), " masks, got ",
         turns.size(), " and ", widths.size());
  for (size_t i = 0; i < masks.size(); ++i) {
    check_rank(op, "masks[i]", masks[i], 3, "[K, h, columns]");
    const int64_t h = masks[i].size(1), columns = masks[i].size(2), w = widths[i];
    if (turns[i] < 0 || turns[i] > 3) fail(op, "turns must be 0 to 3, got ", turns[i]);
    if (w < 1 || w > W || h < 1 || h > H || (columns != w && columns != w / 2 + 1))
      fail(op, "masks[", i, "] must be [K, h, w] or [K, h, w/2+1] with h <= ", H,
           ", w = widths[i] <= ", W, ", got ", shape_text(shape_of(masks[i])), " with width ", w);
    if (full && columns != w)
      fail(op, "masks[", i, "] must be [K, h, w] for whole spectra and for pairs, got ",
           shape_text(shape_of(masks[i])), " with width ", w);
  }
}

template <typename T>
BandGroup<T> group_of(const Tensor& mask, int64_t turns, int64_t width, bool paired) {
  BandGroup<T> g;
  g.mask = read<T>(mask);
  g.K = mask.size(0);
  g.h = mask.size(1);
  g.columns = mask.size(2);
  g.w = width;
  g.turns = static_cast<int>(turns);
  g.stored = stored_bands(g.K, paired);
  return g;
}

inline std::vector<Tensor> contiguous_masks(const char* op, const std::vector<Tensor>& masks,
                                            const Tensor& like) {
  const ScalarType type = real_type(is_double(like.scalar_type()));
  std::vector<Tensor> out;
  for (const Tensor& mask : masks) {
    check_type(op, "masks[i]", mask, type);
    check_same_device(op, "masks[i]", mask, "the spectrum", like);
    out.push_back(packed(mask));
  }
  return out;
}

// Checks split_bands' arguments, allocates its outputs and calls run(Bank<T>).
template <typename Run>
std::vector<Tensor> split_bands_with(Tensor spectrum, std::vector<Tensor> masks,
                                     std::vector<int64_t> turns, std::vector<int64_t> widths,
                                     int64_t width, bool paired, const Run& run) {
  const char* op = "split_bands";
  const bool float64 = check_floating(op, "spectrum", spectrum, true);
  check_rank(op, "spectrum", spectrum, 3, "[N, H, W/2+1] or [N, H, W]");
  const int64_t N = spectrum.size(0), H = spectrum.size(1), columns = spectrum.size(2);
  // The half spectra of images 1 or 2 pixels wide are their whole ones.
  const bool whole = columns == width && width > 2;
  if (width < 1 || (!whole && columns != width / 2 + 1))
    fail(op, "spectrum must have width/2+1 or width columns for width ", width, ", got ",
         shape_text(shape_of(spectrum)));
  check_groups(op, masks, turns, widths, H, width, whole || paired);
  if (paired && !whole && width > 2)
    fail(op, "spectrum must have width = ", width, " columns for bands in pairs, got ", columns);
  spectrum = packed(spectrum);
  masks = contiguous_masks(op, masks, spectrum);
  std::vector<Tensor> out;
  for (const Tensor& m : masks)
    out.push_back(new_tensor(spectrum, {N, stored_bands(m.size(0), paired), m.size(1), m.size(2)},
                             spectrum.scalar_type()));

  const auto launch = [&](auto zero) {
    using T = decltype(zero);
    Bank<T> bank;
    bank.count = static_cast<int>(masks.size());
    bank.planes = N;
    bank.H = H;
    bank.W = width;
    bank.whole = whole;
    bank.paired = paired;
    bank.columns = columns;
    bank.spectrum = const_cast<Cplx<T>*>(read<Cplx<T>>(spectrum));
    for (int i = 0; i < bank.count; ++i) {
      bank.groups[i] = group_of<T>(masks[i], turns[i], widths[i], paired);
      bank.groups[i].planes = N;
      bank.groups[i].data = write<Cplx<T>>(out[i]);
    }
    run(bank, spectrum);
  };
  launch_for(float64, N, launch);
  return out;
}

// Checks merge_bands' arguments, allocates its output and calls run(Bank<T>).
template <typename Run>
Tensor merge_bands_with(std::vector<Tensor> bands, std::vector<Tensor> masks,
                        std::vector<int64_t> turns, std::vector<int64_t> widths, int64_t height,
                        int64_t width, bool whole, bool paired, const Run& run) {
  const char* op = "merge_bands";
  if (height < 1 || width < 1)
    fail(op, "height and width must be positive, got ", height, ", ", width);
  whole = whole && width > 2;  // the same below
  const int64_t columns = whole ? width : width / 2 + 1;
  check_groups(op, masks, turns, widths, height, width, whole || paired);
  if (paired && !whole && width > 2) fail(op, "whole must be true for bands in pairs, got false");
  if (bands.size() != masks.size())
    fail(op, "bands must hold one tensor for each of ", masks.size(), " masks, got ", bands.size());
  const bool float64 = check_floating(op, "bands[0]", bands[0], true);
  int64_t planes = 0, fewest = INT64_MAX;
  for (size_t i = 0; i < bands.size(); ++i) {
    check_type(op, "bands[i]", bands[i], complex_type(float64));
    check_same_device(op, "bands[i]", bands[i], "bands[0]", bands[0]);
    check_rank(op, "bands[i]", bands[i], 4, "[N, K, h, columns]");
    const Shape expected = {bands[i].size(0), stored_bands(masks[i].size(0), paired),
                            masks[i].size(1), masks[i].size(2)};
    check_shape(op, "bands[i]", bands[i], expected);
    planes = std::max(planes, expected[0]);
    fewest = std::min(fewest, expected[0]);
    bands[i] = packed(bands[i]);
  }
  for (const Tensor& band : bands)
    if (planes > 0 && (fewest == 0 || planes % band.size(0) != 0))
      fail(op, "bands' first sizes must divide the largest, ", planes, ", got ", band.size(0));
  masks = contiguous_masks(op, masks, bands[0]);
  Tensor out = new_tensor(bands[0], {planes, height, columns}, bands[0].scalar_type());

  const auto launch = [&](auto zero) {
    using T = decltype(zero);
    Bank<T> bank;
    bank.count = static_cast<int>(masks.size());
    bank.planes = planes;
    bank.H = height;
    bank.W = width;
    bank.whole = whole;
    bank.paired = paired;
    bank.columns = columns;
    bank.spectrum = write<Cplx<T>>(out);
    for (int i = 0; i < bank.count; ++i) {
      bank.groups[i] = group_of<T>(masks[i], turns[i], widths[i], paired);
      bank.groups[i].planes = bands[i].size(0);
      bank.groups[i].data = const_cast<Cplx<T>*>(read<Cplx<T>>(bands[i]));
    }
    run(bank, out);
  };
  launch_for(float64, planes, launch);
  return out;
}

}  // namespace steerlens
