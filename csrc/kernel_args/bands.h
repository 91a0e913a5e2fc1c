// Arguments of the kernels of split_bands and merge_bands.
#pragma once

#include "../math/bands.h"

namespace steerlens {

// One group of bands of the same size: an oriented scale (K bands) or a residual (K = 1).
template <typename T>
struct BandGroup {
  const T* mask;       // [K, h, columns]
  Cplx<T>* data;       // [planes, num_stored, h, columns]; merge_bands: read-only
  int64_t planes;      // planes in data; merge_bands adds data[n % planes] to plane n
  int64_t K, h, w;     // K orientations of h x w coefficients
  int64_t num_stored;  // bands per plane in data: K, or ceil(K/2) if real bands are stored in pairs
  int64_t columns;     // w (full layout) or w/2+1 (half layout)
  int i_power;         // multiply by i^i_power
};

// Enough for 26 scales and 2 residuals, so for sides of up to 2^28.
constexpr int kMaxGroups = 28;

template <typename T>
struct BandArgs {
  BandGroup<T> groups[kMaxGroups];
  int count;
  int64_t planes, H, W;
  bool whole;         // the spectrum is whole, [H, W], not half
  bool paired;        // real bands are stored in pairs (math/bands.h)
  int64_t columns;    // W (whole) or W/2+1
  Cplx<T>* spectrum;  // [planes, H, columns]; split_bands: read-only
};

}  // namespace steerlens
