// morph_planes: step_planes, then move_planes, plane by plane. So only the coefficients of one plane are in memory at a
// time (some MiB for each thread at 224 x 224).
#pragma once

#include "move_planes.h"
#include "step_planes.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// The step and the frames of a morph, for one call of an op. The parts refer to each other.
template <typename T>
struct MorphParts {
  explicit MorphParts(MorphArgs<T>& args)
      : filters({&args.analysis.groups, &args.synthesis.groups}),
        motion(motion_kernels(args)),
        ffts(args.analysis),
        analysis{args.analysis, ffts},
        synthesis{args.synthesis, ffts},
        step{args, motion, analysis},
        frames{args, motion, synthesis} {
    share_filters(args);
  }
  MorphParts(const MorphParts&) = delete;

  FilterMemory<T> filters;
  MotionKernels<T> motion;
  FftTables<T> ffts;
  Analysis<T> analysis;
  Synthesis<T> synthesis;
  MorphStep<T> step;
  FrameSynthesis<T> frames;
};

}  // namespace

template <typename T>
void run_morph(MorphArgs<T>& args) {
  const MorphParts<T> parts(args);
  const MorphFrames<T> frames{args, parts.frames, frame_values(args)};
  const int64_t coefficients = args.coefficient_vectors(kSimdWidth<T>);
  const auto work = [&](int64_t n, const Workspace<T>& workspace, const auto& executor) {
    const Groups<T> groups = groups_in(workspace.extra, args, parts.motion);
    parts.step.plane(n, groups, workspace.extra + coefficients, workspace, executor);
    frames.plane(n, groups, workspace, executor);
  };
  for_each_item(args.analysis, parts.ffts, work,
                {coefficients + gradient_vectors(args), args.frames});
}

}  // namespace steerlens::STEERLENS_CPU_LEVEL
