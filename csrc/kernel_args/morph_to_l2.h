// Arguments of the kernel of morph_planes_to_l2, for B samples (images) and M distances.
#pragma once

#include "morph.h"

namespace steerlens {

template <typename T>
struct MorphToL2Args {
  MorphArgs<T> morph;  // its factors are not used; its `frames` is F
  int64_t samples, planes_per_sample;
  // [B, channels, H, W], the images to which the changes of the planes are added (such as colour images, if the planes
  // are their luma). If null, the planes are the images.
  const T* base;
  int64_t channels;  // channels of an image; frames are [F, B, channels, H, W]
  int64_t distances;
  const T *max_l2, *tolerances;  // [M, B]
  const T* dtype_max_factors;    // [B], the largest factors: above them, numbers may overflow
  // [F - M], for the frames before the M frames at given distances: their factors, as shares of the factor at the first
  // distance.
  const T* shares;
  // Upper bounds of phase changes, in radians: phase_cap is the user's, and sines are accurate up to phase_limit.
  T phase_cap, phase_limit;
  // Estimate of (speed of the image) / (speed of the coefficients), where a speed is (L2 change) / factor. The first
  // factor to try is computed from this ratio.
  T speed_share;
  int64_t iterations;  // upper bound of the number of factors that are tried for a distance
  T* factors;          // [F, B]
  T* l2;               // [M, B]
  bool *attained, *out_of_range;  // [M, B], see math/l2_search.h

  int64_t area() const { return morph.synthesis.H * morph.synthesis.W; }
  int64_t sample_size() const { return channels * area(); }
  const T* image_of(int64_t sample) const {
    return (base ? base : morph.images) + sample * sample_size();
  }
};

}  // namespace steerlens
