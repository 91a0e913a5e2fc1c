// Arguments of the kernels of pair and unpair.
#pragma once

#include "../math/common.h"

namespace steerlens {

template <typename T>
struct PairArgs {
  int64_t run, runs;     // planes in a run (see the glossary in csrc/README.md), and number of runs
  int64_t area;          // number of elements of a plane
  bool complex_planes;   // pair: whether planes are complex; their imaginary parts are ignored
  const void* planes;    // pair: [runs * run, area]
  Cplx<T>* pairs_out;    // pair: [runs * ceil(run/2), area]
  const Cplx<T>* pairs;  // unpair
  T* planes_out;         // unpair
};

template <typename T>
SL_FN int64_t pairs_per_run(const PairArgs<T>& args) {
  return pairs_of(args.run);
}

// The index of the first plane of a pair. The second plane, if there is one, follows it.
template <typename T>
SL_FN int64_t first_plane(const PairArgs<T>& args, int64_t pair) {
  return pair / pairs_per_run(args) * args.run + pair % pairs_per_run(args) * 2;
}

template <typename T>
SL_FN bool has_second(const PairArgs<T>& args, int64_t pair) {
  return pair % pairs_per_run(args) * 2 + 1 < args.run;
}

}  // namespace steerlens
