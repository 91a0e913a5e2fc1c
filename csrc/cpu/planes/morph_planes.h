// morph_planes and its two halves, step_planes and move_planes. The halves are ops of their own, because some callers do
// not know all factors at once. morph_planes computes both halves plane by plane, so that only the coefficients of one
// plane are in memory at a time (some MiB for each thread at 224 x 224).
#pragma once

#include "filter_blocks.h"
#include "morph_frames.h"
#include "morph_step.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// Lets the gradient's analysis read the filters that were laid out for the synthesis.
template <typename T>
inline void share_filters(MorphArgs<T>& args) {
  for (size_t i = 0; i < args.gradient_groups.size(); ++i) {
    args.gradient_groups[i].filter_blocks = args.synthesis.groups[i].filter_blocks;
    args.gradient_groups[i].zero_blocks = args.synthesis.groups[i].zero_blocks;
  }
}

// The step and the frames of a morph, for one call of an op. Not copied, since the members refer to each other.
template <typename T>
struct MorphParts {
  // Lays out the filters of the groups in `lists`.
  MorphParts(MorphArgs<T>& args, GroupLists<T> lists)
      : filters(lists),
        motion(motion_kernels(args)),
        ffts(args.analysis),
        analysis{args.analysis, ffts},
        synthesis{args.synthesis, ffts},
        step{args, motion, analysis},
        one_frame{args, motion, synthesis} {
    share_filters(args);
  }
  explicit MorphParts(MorphArgs<T>& args)
      : MorphParts(args, {&args.analysis.groups, &args.synthesis.groups}) {}
  MorphParts(const MorphParts&) = delete;

  FilterMemory<T> filters;
  MotionKernels<T> motion;
  FftTables<T> ffts;
  Analysis<T> analysis;
  Synthesis<T> synthesis;
  MorphStep<T> step;
  FrameSynthesis<T> one_frame;
};

}  // namespace

template <typename T>
void run_morph(MorphArgs<T>& args) {
  const MorphParts<T> parts(args);
  const MorphFrames<T> all_frames{args, parts.one_frame, frame_values(args)};
  const int64_t coefficient_vectors = args.coefficient_vectors(kSimdWidth<T>);
  const auto work = [&](int64_t n, const Workspace<T>& workspace, const auto& executor) {
    const Groups<T> groups = groups_in(workspace.extra, args, parts.motion);
    parts.step.plane(n, groups, workspace.extra + coefficient_vectors, workspace, executor);
    all_frames.plane(n, groups, workspace, executor);
  };
  for_each_item(args.analysis, parts.ffts, work,
                {coefficient_vectors + gradient_vectors(args), args.frames});
}

template <typename T>
void run_step(MorphArgs<T>& args) {
  const MorphParts<T> parts(args);
  const auto work = [&](int64_t n, const Workspace<T>& workspace, const auto& executor) {
    const Groups<T> groups = stored_groups(n, args, parts.motion);
    parts.step.plane(n, groups, workspace.extra, workspace, executor);
    parts.step.write_sizes(n, groups, executor);
  };
  for_each_item(args.analysis, parts.ffts, work, {gradient_vectors(args)});
}

template <typename T>
void run_move(MorphArgs<T>& args) {
  const MorphParts<T> parts(args, {&args.synthesis.groups});
  const MorphFrames<T> all_frames{args, parts.one_frame, frame_values(args)};
  const auto work = [&](int64_t n, const Workspace<T>& workspace, const auto& executor) {
    all_frames.plane(n, stored_groups(n, args, parts.motion), workspace, executor);
  };
  for_each_item(args.synthesis, parts.ffts, work, {0, args.frames});
}

}  // namespace steerlens::STEERLENS_CPU_LEVEL
