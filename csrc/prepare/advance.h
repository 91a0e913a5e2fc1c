// Checks the arguments of advance_planes, and allocates its results. The op takes one step along a new gradient. Its
// arguments are those of morph_planes_to_l2 (except DistanceInputs), AdvanceInputs, and max_step_ratio
// (kernel_args/advance.h). See steerlens_fast/ops/advance.py, and the glossary in csrc/README.md.
#pragma once

#include "../kernel_args/advance.h"
#include "morph.h"

namespace steerlens {

struct AdvanceInputs {
  // For each group, [N, K, h, w]: the changes of phases since the source, if phases move; then those of log amplitudes,
  // if amplitudes move.
  std::vector<Tensor> coordinates;
  Tensor source, position;        // [B * channels, H, W]: the source and the present images
  std::optional<Tensor> factors;  // [2, B], of phases and amplitudes
  // [4, B], with the rows max_l2, tolerances, dtype_max_factors (kernel_args/morph_to_l2.h), and first factors to try.
  std::optional<Tensor> limits;
};

template <typename T>
struct AdvancePlanes {
  MorphInputs in;
  SampleInputs samples;
  AdvanceInputs advance;
  AdvanceArgs<T> args;
  StepSizes sizes;
  Tensor frames, factors, l2, out_of_range;  // results
};

// Checks that `t` has this shape, and the precision and device of `images`; makes it contiguous.
template <typename T>
void check_tensor(const char* op, const char* name, Tensor& t, const Tensor& images,
                  const Shape& shape) {
  check_type(op, name, t, kRealType<T>);
  check_same_device(op, name, t, "images", images);
  check_shape(op, name, t, shape);
  t = as_contiguous(t);
}

// Sets the pointers to the coordinates of each group. The op writes to these tensors, so they must be contiguous.
template <typename T>
void set_coordinates(const char* op, AdvancePlanes<T>& p) {
  std::vector<Tensor>& tensors = p.advance.coordinates;
  MorphArgs<T>& morph = p.args.to_l2.morph;
  const std::vector<PlaneGroup<T>>& groups = morph.synthesis.groups;
  morph.anchored = !tensors.empty();
  if (!morph.anchored) return;
  const size_t per_group = morph.moves_phase() + morph.moves_amplitude();
  if (tensors.size() != per_group * groups.size())
    fail(op, "coordinates must hold ", per_group * groups.size(), " tensors, or none, got ",
         tensors.size());
  const auto checked = [&](size_t i, const PlaneGroup<T>& group) {
    Tensor& t = tensors[i];
    check_type(op, {"coordinates", i}, t, kRealType<T>);
    check_same_device(op, {"coordinates", i}, t, "images", p.in.images);
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
  std::vector<Tensor> others = {p.in.images, *p.in.gradients, p.advance.source, p.advance.position};
  for (const auto& filters : {p.in.analysis, p.in.synthesis})
    others.insert(others.end(), filters.begin(), filters.end());
  for (const auto& t : {p.samples.base, p.advance.factors, p.advance.limits})
    if (t) others.push_back(*t);
  for (size_t i = 0; i < p.advance.coordinates.size(); ++i) {
    const Tensor& written = p.advance.coordinates[i];
    for (const Tensor& other : others)
      if (overlap(written, other))
        fail(op, "coordinates[", i, "] must not share memory with another argument");
    others.push_back(written);
  }
}

template <typename T>
AdvancePlanes<T> prepare_advance_planes(const PlaneLimits& limits, const MorphInputs& in,
                                        const SampleInputs& samples, const AdvanceInputs& advance,
                                        const MorphOptions& options, const SearchOptions& search,
                                        double max_step_ratio) {
  const char* op = "advance_planes";
  AdvancePlanes<T> p{in, samples, advance, {}, {}, {}, {}, {}, {}};
  AdvanceArgs<T>& args = p.args;
  MorphToL2Args<T>& to_l2 = args.to_l2;
  to_l2 = check_samples<T>(op, limits, p.in, p.samples, options, search);
  to_l2.morph.frames = to_l2.distances = 1;
  const Tensor& images = p.in.images;
  const int64_t B = to_l2.samples, planes = B * to_l2.channels;
  const Shape frame = {planes, images.size(1), images.size(2)};
  check_tensor<T>(op, "source", p.advance.source, images, frame);
  check_tensor<T>(op, "position", p.advance.position, images, frame);
  if (advance.factors.has_value() == advance.limits.has_value())
    fail(op, "either factors or limits must be given, got ", advance.factors ? "both" : "neither");
  if (advance.factors) {
    check_tensor<T>(op, "factors", *p.advance.factors, images, {2, B});
    args.phase_factors = const_data<T>(*p.advance.factors);
    args.amplitude_factors = args.phase_factors + B;
  } else {
    check_tensor<T>(op, "limits", *p.advance.limits, images, {4, B});
    args.searches = true;
    to_l2.max_l2 = const_data<T>(*p.advance.limits);
    to_l2.tolerances = to_l2.max_l2 + B;
    to_l2.dtype_max_factors = to_l2.max_l2 + 2 * B;
    args.starts = to_l2.max_l2 + 3 * B;
  }
  set_coordinates(op, p);
  check_no_overlap(op, p);
  args.source = const_data<T>(p.advance.source);
  args.position = const_data<T>(p.advance.position);
  args.max_step_ratio = static_cast<T>(max_step_ratio);
  p.sizes = new_step_sizes(images, to_l2.morph);
  p.frames = new_frames(images, planes, to_l2.morph);
  p.factors = new_tensor(images, {2, B}, kRealType<T>);
  p.l2 = new_tensor(images, {B}, kRealType<T>);
  p.out_of_range = new_tensor(images, {B}, ScalarType::Bool);
  args.taken_phase_factors = mutable_data<T>(p.factors);
  args.taken_amplitude_factors = args.taken_phase_factors + B;
  to_l2.l2 = mutable_data<T>(p.l2);
  to_l2.out_of_range = mutable_data<bool>(p.out_of_range);
  return p;
}

}  // namespace steerlens
