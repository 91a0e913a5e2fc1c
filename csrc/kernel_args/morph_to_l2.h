// What the kernel of morph_planes_to_l2 reads: B samples of some planes each, M distances.
#pragma once

#include "morph.h"

namespace steerlens {

struct MorphToL2Args {
  MorphArgs morph;  // without factors; `frames` is F
  int64_t samples, planes_per_sample;
  // The images that the planes' changes are added to, [B, channels, H, W]; null: the planes themselves are the images.
  const float* base;
  int64_t channels;  // of a sample in the frames [F, B, channels, H, W]
  int64_t distances;
  const float *max_l2, *tolerances;  // [M, B]
  const float* range_ends;           // [B], the largest factors that can be represented
  const float* shares;               // [F - M], of the factor at the first distance
  float phase_cap, phase_limit;      // largest phase steps, in radians
  float speed_share;                 // of a sample's speed, for the first factor
  int64_t iterations;                // largest number of factors tried for a distance
  float* factors;                    // [F, B]
  float* l2;                         // [M, B]
  bool *attained, *out_of_range;     // [M, B]

  int64_t area() const { return morph.synthesis.H * morph.synthesis.W; }
  int64_t sample_size() const { return channels * area(); }
  const float* image_of(int64_t sample) const {
    return (base ? base : morph.images) + sample * sample_size();
  }
};

}  // namespace steerlens
