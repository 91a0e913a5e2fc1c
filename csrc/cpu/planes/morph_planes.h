// morph_planes: step_planes, then move_planes, plane by plane. Only the coefficients of one plane are in memory at a
// time (some MiB for each thread at 224 x 224; all threads share a large plane).
#pragma once

#include "move_planes.h"
#include "step_planes.h"

namespace steerlens::STEERLENS_CPU_LEVEL {

template <typename T>
void run_morph(MorphArgs<T>& args) {
  const FilterMemory<T> filters({&args.analysis.groups, &args.synthesis.groups});
  share_filters(args);
  const MotionKernels<T> motion = motion_kernels(args);
  const FftTables<T> ffts(args.analysis);
  const Analysis<T> analysis{args.analysis, ffts};
  const Synthesis<T> synthesis{args.synthesis, ffts};
  const MorphStep<T> step{args, motion, analysis};
  const FrameSynthesis<T> frame_synthesis{args, motion, synthesis};
  const MorphFrames<T> frames{args, frame_synthesis, frame_values(args)};
  const int64_t coefficients = args.coefficient_vectors(kSimdWidth<T>);
  const auto work = [&](int64_t n, const Workspace<T>& workspace, const auto& executor) {
    const Groups<T> groups = groups_in(workspace.extra, args, motion);
    step.plane(n, groups, workspace.extra + coefficients, workspace, executor);
    frames.plane(n, groups, workspace, executor);
  };
  for_each_item(args.analysis, ffts, work, {coefficients + gradient_vectors(args), args.frames});
}

}  // namespace steerlens::STEERLENS_CPU_LEVEL
