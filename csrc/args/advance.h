// Checks the arguments of advance_planes, and allocates its results. The op takes one step along a new gradient. Its
// arguments are those of morph_planes_to_l2 for one frame, and those in AdvanceInputs and AdvanceOptions. See
// steerlens_fast/ops/advance.py, and the glossary in csrc/README.md.
#pragma once

#include "../kernel_args/advance.h"
#include "morph.h"

namespace steerlens {

struct AdvanceInputs {
  // For each group, [N, K, h, w]: the changes of phases since the source, if phases move; then those of log amplitudes,
  // if amplitudes move.
  std::vector<Tensor> coordinates;
  std::optional<Tensor> base;  // [B * channels, H, W]
  int64_t planes_per_sample;
  Tensor source,
      position;  // [B * channels, H, W]: the source and the present images, with all channels
  std::optional<Tensor> factors;  // [2, B], of phases and amplitudes
  std::optional<Tensor> limits;   // [4, B]: distances, tolerances, largest and first factors to try
};

struct AdvanceOptions {
  L2Options l2;
  double max_step_ratio;
};

template <typename T>
struct AdvancePlanes {
  MorphPlanesToL2<T> morph;
  AdvanceInputs in;
  AdvanceArgs<T> args;
  Tensor frames, factors, l2, out_of_range;  // results
};

template <typename T>
void check_like_frames(const char* op, const char* name, Tensor& t, const Tensor& images,
                       int64_t count) {
  check_type(op, name, t, kRealType<T>);
  check_same_device(op, name, t, "images", images);
  check_shape(op, name, t, {count, images.size(1), images.size(2)});
  t = as_contiguous(t);
}

template <typename T>
void check_per_sample(const char* op, const char* name, Tensor& t, const Tensor& images,
                      int64_t rows, int64_t samples) {
  check_type(op, name, t, kRealType<T>);
  check_same_device(op, name, t, "images", images);
  check_shape(op, name, t, {rows, samples});
  t = as_contiguous(t);
}

// Sets the pointers to the coordinates of each group. The op writes to these tensors, so they must be contiguous.
template <typename T>
void set_coordinates(const char* op, AdvancePlanes<T>& p) {
  std::vector<Tensor>& tensors = p.in.coordinates;
  MorphArgs<T>& morph = p.args.to_l2.morph;
  const std::vector<PlaneGroup<T>>& groups = morph.synthesis.groups;
  morph.anchored = !tensors.empty();
  if (!morph.anchored) return;
  const size_t of_group = morph.moves_phase() + morph.moves_amplitude();
  if (tensors.size() != of_group * groups.size())
    fail(op, "coordinates must hold ", of_group * groups.size(), " tensors, or none, got ",
         tensors.size());
  const auto checked = [&](size_t i, const PlaneGroup<T>& group) {
    Tensor& t = tensors[i];
    check_type(op, {"coordinates", i}, t, kRealType<T>);
    check_same_device(op, {"coordinates", i}, t, "images", p.morph.morph.in.images);
    check_shape(op, {"coordinates", i}, t, {morph.synthesis.count, group.K, group.h, group.w});
    if (!t.is_contiguous()) fail(op, "coordinates[", i, "] must be contiguous");
    return mutable_data<T>(t);
  };
  size_t next = 0;
  for (const PlaneGroup<T>& group : groups) {
    Coordinates<T> coordinates = {nullptr, nullptr};
    if (morph.moves_phase()) coordinates.phase = checked(next++, group);
    if (morph.moves_amplitude()) coordinates.log_amplitude = checked(next++, group);
    p.args.coordinates.push_back(coordinates);
  }
}

// Whether two contiguous tensors share memory.
inline bool overlap(const Tensor& a, const Tensor& b) {
  const auto begin = [](const Tensor& t) {
    return reinterpret_cast<uintptr_t>(t.const_data_ptr());
  };
  const auto end = [&](const Tensor& t) {
    return begin(t) + static_cast<uintptr_t>(t.numel()) * t.element_size();
  };
  return begin(a) < end(b) && begin(b) < end(a);
}

// Threads write the coordinates of some planes while others read the arguments of other planes.
template <typename T>
void check_no_overlap(const char* op, const AdvancePlanes<T>& p) {
  const MorphInputs& morph = p.morph.morph.in;
  std::vector<Tensor> others = {morph.images, morph.gradients, p.in.source, p.in.position};
  for (const auto& filters : {morph.analysis, morph.synthesis})
    others.insert(others.end(), filters.begin(), filters.end());
  for (const auto& t : {p.morph.in.base, p.in.factors, p.in.limits})
    if (t) others.push_back(*t);
  for (size_t i = 0; i < p.in.coordinates.size(); ++i) {
    const Tensor& written = p.in.coordinates[i];
    for (const Tensor& other : others)
      if (overlap(written, other))
        fail(op, "coordinates[", i, "] must not share memory with another argument");
    others.push_back(written);
  }
}

template <typename T>
AdvancePlanes<T> prepare_advance_planes(const PlaneLimits& limits, const MorphInputs& morph_in,
                                        const AdvanceInputs& in, const MorphOptions& options,
                                        const AdvanceOptions& advance) {
  const char* op = "advance_planes";
  check_type(op, "images", morph_in.images, kRealType<T>);
  check_rank(op, "images", morph_in.images, 3, "[N, H, W]");
  const auto new_result = [&](const Shape& shape, ScalarType type) {
    return new_tensor(morph_in.images, shape, type);
  };
  const int64_t B = in.planes_per_sample > 0 ? morph_in.images.size(0) / in.planes_per_sample : 0;
  // Placeholders, of which prepare_morph_planes_to_l2 reads only the shapes. `limits` replaces them below.
  const Tensor unused = new_result({1, B}, kRealType<T>);
  AdvancePlanes<T> p{
      prepare_morph_planes_to_l2<T>(limits, morph_in,
                                    {in.base, in.planes_per_sample, unused, unused,
                                     new_result({B}, kRealType<T>), new_result({0}, kRealType<T>)},
                                    options, advance.l2, op),
      in,
      {},
      {},
      {},
      {},
      {}};
  const Tensor& images = p.morph.morph.in.images;
  AdvanceArgs<T>& args = p.args;
  args.to_l2 = p.morph.args;
  const int64_t count = B * args.to_l2.channels;
  check_like_frames<T>(op, "source", p.in.source, images, count);
  check_like_frames<T>(op, "position", p.in.position, images, count);
  if (in.factors.has_value() == in.limits.has_value())
    fail(op, "either factors or limits must be given, got ", in.factors ? "both" : "neither");
  if (in.factors) check_per_sample<T>(op, "factors", *p.in.factors, images, 2, B);
  if (in.limits) check_per_sample<T>(op, "limits", *p.in.limits, images, 4, B);
  set_coordinates(op, p);
  check_no_overlap(op, p);
  args.searches = in.limits.has_value();
  const T* rows = const_data<T>(args.searches ? *p.in.limits : *p.in.factors);
  if (args.searches) {
    args.to_l2.max_l2 = rows;
    args.to_l2.tolerances = rows + B;
    args.to_l2.range_ends = rows + 2 * B;
    args.starts = rows + 3 * B;
  } else {
    args.phase_factors = rows;
    args.amplitude_factors = rows + B;
  }
  args.source = const_data<T>(p.in.source);
  args.position = const_data<T>(p.in.position);
  args.max_step_ratio = static_cast<T>(advance.max_step_ratio);
  p.frames = p.morph.frames;
  p.factors = new_result({2, B}, kRealType<T>);
  p.l2 = new_result({B}, kRealType<T>);
  p.out_of_range = new_result({B}, ScalarType::Bool);
  args.taken_phase_factors = mutable_data<T>(p.factors);
  args.taken_amplitude_factors = args.taken_phase_factors + B;
  args.to_l2.l2 = mutable_data<T>(p.l2);
  args.to_l2.out_of_range = mutable_data<bool>(p.out_of_range);
  return p;
}

}  // namespace steerlens
