// Memory for the work on one plane.
#pragma once

#include "../scratch_memory.h"
#include "plane_fft.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

template <typename T>
struct Workspace {
  ComplexVec<T>* spectrum;      // [number of row blocks, W]
  ComplexVec<T>* intermediate;  // between the transforms of rows and of columns: plane_fft.h
  Vec<T>* extra;                // for the op's own use: see ItemNeeds in executor.h
};

// The workspaces: one for each thread, or a single one that all threads share.
template <typename T>
class WorkspaceMemory {
 public:
  WorkspaceMemory(const PlaneArgs<T>& args, int64_t extra, int64_t count)
      : args_(args),
        extra_(extra),
        memory_(count * vectors(args, extra) * static_cast<int64_t>(sizeof(Vec<T>))) {}

  // Vectors in one workspace: two for each ComplexVec of `spectrum` and `intermediate`, and `extra`.
  static int64_t vectors(const PlaneArgs<T>& args, int64_t extra) {
    return 4 * complex_vectors(args) + extra;
  }

  Workspace<T> of(int64_t n) const {
    Vec<T>* first = memory_.template data<Vec<T>>() + n * vectors(args_, extra_);
    ComplexVec<T>* spectrum = reinterpret_cast<ComplexVec<T>*>(first);
    ComplexVec<T>* intermediate = spectrum + complex_vectors(args_);
    return {spectrum, intermediate,
            reinterpret_cast<Vec<T>*>(intermediate + complex_vectors(args_))};
  }

 private:
  static int64_t complex_vectors(const PlaneArgs<T>& args) {
    return padded<T>(args.H) * padded<T>(args.W) / kSimdWidth<T>;
  }

  const PlaneArgs<T>& args_;
  int64_t extra_;
  ScratchMemory memory_;
};

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
