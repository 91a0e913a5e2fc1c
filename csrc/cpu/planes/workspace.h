// Memory for the work on one plane.
#pragma once

#include "../scratch_memory.h"
#include "plane_fft.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

struct Workspace {
  ComplexVec* spectrum;      // [row blocks of H, W]
  ComplexVec* intermediate;  // between the transforms of rows and of columns: plane_fft.h
  FloatVec* extra;           // for the op's own use: see PlaneNeeds
};

// One workspace for each thread.
class WorkspaceMemory {
 public:
  WorkspaceMemory(const PlaneArgs& args, int64_t extra, int64_t threads)
      : args_(args),
        extra_(extra),
        memory_(threads * vectors(args, extra) * static_cast<int64_t>(sizeof(FloatVec))) {}

  // Vectors in one workspace.
  static int64_t vectors(const PlaneArgs& args, int64_t extra) {
    return 4 * complex_vectors(args) + extra;
  }

  Workspace of(int64_t thread) const {
    FloatVec* first = memory_.data<FloatVec>() + thread * vectors(args_, extra_);
    ComplexVec* spectrum = reinterpret_cast<ComplexVec*>(first);
    ComplexVec* intermediate = spectrum + complex_vectors(args_);
    return {spectrum, intermediate,
            reinterpret_cast<FloatVec*>(intermediate + complex_vectors(args_))};
  }

 private:
  static int64_t complex_vectors(const PlaneArgs& args) {
    return padded(args.H) * padded(args.W) / kSimdWidth;
  }

  const PlaneArgs& args_;
  int64_t extra_;
  ScratchMemory memory_;
};

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
