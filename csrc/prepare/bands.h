// Checks the arguments of split_bands and merge_bands, and allocates their results.
#pragma once

#include "../checks.h"
#include "../kernel_args/bands.h"

namespace steerlens {

inline void check_i_power(const char* op, const ArgName& name, int64_t i_power) {
  if (i_power < 0 || i_power > 3) fail(op, name, " must be 0 to 3, got ", i_power);
}

inline void check_groups(const char* op, const std::vector<Tensor>& masks,
                         const std::vector<int64_t>& i_powers, const std::vector<int64_t>& widths,
                         int64_t H, int64_t W, bool full_layout) {
  if (masks.empty() || masks.size() > kMaxGroups)
    fail(op, "masks must hold 1 to ", kMaxGroups, " tensors, got ", masks.size());
  if (i_powers.size() != masks.size() || widths.size() != masks.size())
    fail(op, "i_powers and widths must have one entry for each of ", masks.size(), " masks, got ",
         i_powers.size(), " and ", widths.size());
  for (size_t i = 0; i < masks.size(); ++i) {
    check_rank(op, {"masks", i}, masks[i], 3, "[K, h, columns]");
    const int64_t h = masks[i].size(1), columns = masks[i].size(2), w = widths[i];
    check_i_power(op, {"i_powers", i}, i_powers[i]);
    if (w < 1 || w > W || h < 1 || h > H || (columns != w && columns != w / 2 + 1))
      fail(op, "masks[", i, "] must be [K, h, w] or [K, h, w/2+1] with h <= ", H, ", w = widths[",
           i, "] <= ", W, ", got ", shape_text(shape_of(masks[i])), " with width ", w);
    if (full_layout && columns != w)
      fail(op, "masks[", i, "] must be [K, h, w] for whole spectra and for pairs, got ",
           shape_text(shape_of(masks[i])), " with width ", w);
  }
}

template <typename T>
BandGroup<T> group_of(const Tensor& mask, int64_t i_power, int64_t width, bool paired) {
  BandGroup<T> g;
  g.mask = const_data<T>(mask);
  g.K = mask.size(0);
  g.h = mask.size(1);
  g.columns = mask.size(2);
  g.w = width;
  g.i_power = static_cast<int>(i_power);
  g.num_stored = stored_bands(g.K, paired);
  return g;
}

// Checks dtype and device of the masks, and returns contiguous ones.
inline std::vector<Tensor> contiguous_masks(const char* op, const std::vector<Tensor>& masks,
                                            const ArgName& like_name, const Tensor& like) {
  const ScalarType type = real_type(is_double(like.scalar_type()));
  std::vector<Tensor> out;
  for (size_t i = 0; i < masks.size(); ++i) {
    check_type(op, {"masks", i}, masks[i], type);
    check_same_device(op, {"masks", i}, masks[i], like_name, like);
    out.push_back(as_contiguous(masks[i]));
  }
  return out;
}

// The tensors of split_bands, whose results are `bands`, and of merge_bands, whose result is `spectrum`.
struct BandTensors {
  std::vector<Tensor> bands, masks;
  std::vector<int64_t> i_powers, widths;
  Tensor spectrum;
  int64_t width;
  bool whole, paired;

  bool float64() const { return is_double(spectrum.scalar_type()); }
  int64_t count() const { return spectrum.size(0); }  // planes; BandArgs::count counts groups

  // Does not set the pointers to bands and spectrum, since it depends on the op which of them are const.
  template <typename T>
  BandArgs<T> args() const {
    BandArgs<T> args;
    args.count = static_cast<int>(masks.size());
    args.planes = spectrum.size(0);
    args.H = spectrum.size(1);
    args.W = width;
    args.whole = whole;
    args.paired = paired;
    args.columns = spectrum.size(2);
    for (int i = 0; i < args.count; ++i) {
      args.groups[i] = group_of<T>(masks[i], i_powers[i], widths[i], paired);
      args.groups[i].planes = bands[i].size(0);
    }
    return args;
  }
};

struct SplitBands : BandTensors {
  template <typename T>
  BandArgs<T> args() {
    BandArgs<T> args = BandTensors::args<T>();
    args.spectrum = const_cast<Cplx<T>*>(const_data<Cplx<T>>(spectrum));
    for (int i = 0; i < args.count; ++i) args.groups[i].data = mutable_data<Cplx<T>>(bands[i]);
    return args;
  }
};

struct MergeBands : BandTensors {
  template <typename T>
  BandArgs<T> args() {
    BandArgs<T> args = BandTensors::args<T>();
    args.spectrum = mutable_data<Cplx<T>>(spectrum);
    for (int i = 0; i < args.count; ++i)
      args.groups[i].data = const_cast<Cplx<T>*>(const_data<Cplx<T>>(bands[i]));
    return args;
  }
};

inline SplitBands prepare_split_bands(Tensor spectrum, std::vector<Tensor> masks,
                                      std::vector<int64_t> i_powers, std::vector<int64_t> widths,
                                      int64_t width, bool paired) {
  const char* op = "split_bands";
  check_floating(op, "spectrum", spectrum, true);
  check_rank(op, "spectrum", spectrum, 3, "[N, H, W/2+1] or [N, H, W]");
  const int64_t N = spectrum.size(0), H = spectrum.size(1), columns = spectrum.size(2);
  // The half spectrum of an image that is 1 or 2 pixels wide is its whole spectrum.
  const bool whole = columns == width && width > 2;
  if (width < 1 || (!whole && columns != width / 2 + 1))
    fail(op, "spectrum must have width/2+1 or width columns for width ", width, ", got ",
         shape_text(shape_of(spectrum)));
  check_groups(op, masks, i_powers, widths, H, width, whole || paired);
  if (paired && !whole && width > 2)
    fail(op, "spectrum must have width = ", width, " columns for bands in pairs, got ", columns);
  spectrum = as_contiguous(spectrum);
  masks = contiguous_masks(op, masks, "spectrum", spectrum);
  std::vector<Tensor> bands;
  for (const Tensor& m : masks)
    bands.push_back(new_tensor(spectrum, {N, stored_bands(m.size(0), paired), m.size(1), m.size(2)},
                               spectrum.scalar_type()));
  return {{bands, masks, i_powers, widths, spectrum, width, whole, paired}};
}

inline MergeBands prepare_merge_bands(std::vector<Tensor> bands, std::vector<Tensor> masks,
                                      std::vector<int64_t> i_powers, std::vector<int64_t> widths,
                                      int64_t height, int64_t width, bool whole, bool paired) {
  const char* op = "merge_bands";
  if (height < 1 || width < 1)
    fail(op, "height and width must be positive, got ", height, ", ", width);
  whole = whole && width > 2;  // up to a width of 2 half and whole spectra are the same
  const int64_t columns = whole ? width : width / 2 + 1;
  check_groups(op, masks, i_powers, widths, height, width, whole || paired);
  if (paired && !whole && width > 2) fail(op, "whole must be true for bands in pairs, got false");
  if (bands.size() != masks.size())
    fail(op, "bands must hold one tensor for each of ", masks.size(), " masks, got ", bands.size());
  const bool float64 = check_floating(op, "bands[0]", bands[0], true);
  int64_t planes = 0;
  for (size_t i = 0; i < bands.size(); ++i) {
    check_type(op, {"bands", i}, bands[i], complex_type(float64));
    check_same_device(op, {"bands", i}, bands[i], "bands[0]", bands[0]);
    check_rank(op, {"bands", i}, bands[i], 4, "[N, K, h, columns]");
    const Shape expected = {bands[i].size(0), stored_bands(masks[i].size(0), paired),
                            masks[i].size(1), masks[i].size(2)};
    check_shape(op, {"bands", i}, bands[i], expected);
    planes = std::max(planes, expected[0]);
    bands[i] = as_contiguous(bands[i]);
  }
  for (size_t i = 0; i < bands.size(); ++i)
    if (planes > 0 && (bands[i].size(0) == 0 || planes % bands[i].size(0) != 0))
      fail(op, "bands[", i, "] must have a number of planes that divides the largest, ", planes,
           ", got ", bands[i].size(0));
  masks = contiguous_masks(op, masks, "bands[0]", bands[0]);
  const Tensor spectrum = new_tensor(bands[0], {planes, height, columns}, bands[0].scalar_type());
  return {{bands, masks, i_powers, widths, spectrum, width, whole, paired}};
}

}  // namespace steerlens
