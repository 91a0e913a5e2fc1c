// pair and unpair on the CPU: blocks of a pair of planes in parallel.
#include "../args/pair.h"

#include "clones.h"
#include "parallel.h"

namespace steerlens {
namespace {

constexpr int64_t kBlock = 8192;

template <typename T>
SL_FN void pair_body(const PairArgs<T>& args, int64_t begin, int64_t end) {
  const int64_t blocks = (args.area + kBlock - 1) / kBlock, area = args.area;
  for (int64_t b = begin; b < end; ++b) {
    const int64_t pair = b / blocks, first = b % blocks * kBlock;
    const int64_t size = area - first < kBlock ? area - first : kBlock;
    const int64_t at = first_plane(args, pair) * area + first;
    const int64_t other = at + area;
    Cplx<T>* __restrict__ out = args.pairs_out + pair * area + first;
    const bool both = has_second(args, pair);
    if (args.complex_planes) {
      const Cplx<T>* __restrict__ planes = static_cast<const Cplx<T>*>(args.planes);
      if (both)
        for (int64_t i = 0; i < size; ++i) out[i] = {planes[at + i].re, planes[other + i].re};
      else
        for (int64_t i = 0; i < size; ++i) out[i] = {planes[at + i].re, T(0)};
    } else {
      const T* __restrict__ planes = static_cast<const T*>(args.planes);
      if (both)
        for (int64_t i = 0; i < size; ++i) out[i] = {planes[at + i], planes[other + i]};
      else
        for (int64_t i = 0; i < size; ++i) out[i] = {planes[at + i], T(0)};
    }
  }
}
STEERLENS_CLONE_FOR_DTYPES(pair, PairArgs)

template <typename T>
SL_FN void unpair_body(const PairArgs<T>& args, int64_t begin, int64_t end) {
  const int64_t blocks = (args.area + kBlock - 1) / kBlock, area = args.area;
  for (int64_t b = begin; b < end; ++b) {
    const int64_t pair = b / blocks, first = b % blocks * kBlock;
    const int64_t size = area - first < kBlock ? area - first : kBlock;
    const Cplx<T>* __restrict__ in = args.pairs + pair * area + first;
    T* __restrict__ out = args.planes_out + first_plane(args, pair) * area + first;
    T* __restrict__ other = out + area;
    if (has_second(args, pair))
      for (int64_t i = 0; i < size; ++i) {
        out[i] = in[i].re;
        other[i] = in[i].im;
      }
    else
      for (int64_t i = 0; i < size; ++i) out[i] = in[i].re;
  }
}
STEERLENS_CLONE_FOR_DTYPES(unpair, PairArgs)

// A runner that calls `loop` on ranges of the blocks of all pairs, in parallel.
#define STEERLENS_RUN(loop)                                                     \
  [](const auto& args, const Tensor&) {                                         \
    const int64_t blocks = (args.area + kBlock - 1) / kBlock;                   \
    const int64_t size = args.area < kBlock ? args.area : kBlock;               \
    parallel_rows(args.runs * pairs_per_run(args) * blocks, 2 * size,           \
                  [&](int64_t begin, int64_t end) { loop(args, begin, end); }); \
  }

Tensor pair_op(Tensor planes, int64_t run) { return pair_with(planes, run, STEERLENS_RUN(pair)); }

Tensor unpair_op(Tensor pairs, int64_t run) {
  return unpair_with(pairs, run, STEERLENS_RUN(unpair));
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CPU, m) {
  m.impl("pair", TORCH_BOX(&pair_op));
  m.impl("unpair", TORCH_BOX(&unpair_op));
}

}  // namespace steerlens
