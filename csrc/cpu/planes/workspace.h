// Memory for the work on one plane.
#pragma once

#include <torch/csrc/stable/ops.h>

#include "plane_fft.h"

STEERLENS_SIMD_BEGIN
namespace steerlens {
namespace {

struct Workspace {
  ComplexVec* spectrum;      // [row blocks of H, W]
  ComplexVec* intermediate;  // between the transforms of rows and of columns: plane_fft.h
  FloatVec* extra;           // as many vectors as the op asks for
};

// One workspace for each thread. torch's allocator provides the memory, so that torch's memory statistics contain it.
class WorkspaceMemory {
 public:
  WorkspaceMemory(const Tensor& like, const PlaneArgs& args, int64_t extra, int64_t threads)
      : args_(args),
        extra_(extra),
        memory_(torch::stable::new_empty(like, {threads, vectors(args, extra) * kSimdWidth},
                                         ScalarType::Float)) {}

  // Vectors in one workspace.
  static int64_t vectors(const PlaneArgs& args, int64_t extra) {
    return 4 * complex_vectors(args) + extra;
  }

  Workspace of(int64_t thread) {
    FloatVec* first = mutable_data<FloatVec>(memory_) + thread * vectors(args_, extra_);
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
  Tensor memory_;
};

}  // namespace
}  // namespace steerlens
STEERLENS_SIMD_END
