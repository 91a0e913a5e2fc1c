// pair and unpair on the CPU: blocks of a pair of planes in parallel.
#include "../args/pair.h"

#include "blocks.h"
#include "clones.h"
#include "parallel.h"

namespace steerlens {
namespace {

constexpr int64_t kBlock = 1024;

// A block of one pair of planes.
struct PairBlock {
  int64_t pair, first, size;
};

template <typename T>
SL_FN PairBlock block_at(const PairArgs<T>& args, int64_t b) {
  const int64_t blocks = (args.area + kBlock - 1) / kBlock, first = b % blocks * kBlock;
  return {b / blocks, first, args.area - first < kBlock ? args.area - first : kBlock};
}

template <typename T>
SL_FN T real_part(T x) {
  return x;
}
template <typename T>
SL_FN T real_part(const Cplx<T>& z) {
  return z.re;
}

template <typename Plane, typename T>
SL_FN void pair_blocks(const PairArgs<T>& args, int64_t begin, int64_t end) {
  Outlet<Cplx<T>, kBlock> outlet(args.runs * pairs_per_run(args) * args.area);
  for (int64_t b = begin; b < end; ++b) {
    const auto [pair, first, size] = block_at(args, b);
    const Plane* __restrict__ plane =
        static_cast<const Plane*>(args.planes) + first_plane(args, pair) * args.area + first;
    const Plane* __restrict__ other = plane + args.area;
    Cplx<T>* const to = args.pairs_out + pair * args.area + first;
    Cplx<T>* __restrict__ out = outlet.open(to);
    if (has_second(args, pair))
      for (int64_t i = 0; i < size; ++i) out[i] = {real_part(plane[i]), real_part(other[i])};
    else
      for (int64_t i = 0; i < size; ++i) out[i] = {real_part(plane[i]), T(0)};
    outlet.close(to, size);
  }
}

template <typename T>
SL_FN void pair_body(const PairArgs<T>& args, int64_t begin, int64_t end) {
  args.complex_planes ? pair_blocks<Cplx<T>>(args, begin, end) : pair_blocks<T>(args, begin, end);
}
STEERLENS_CLONE_FOR_DTYPES(pair, PairArgs)

template <typename T>
SL_FN void unpair_body(const PairArgs<T>& args, int64_t begin, int64_t end) {
  const int64_t count = args.runs * args.run * args.area;
  Outlet<T, kBlock> outlet(count), other_outlet(count);
  for (int64_t b = begin; b < end; ++b) {
    const auto [pair, first, size] = block_at(args, b);
    const bool both = has_second(args, pair);
    const Cplx<T>* __restrict__ in = args.pairs + pair * args.area + first;
    T* const to = args.planes_out + first_plane(args, pair) * args.area + first;
    T* __restrict__ out = outlet.open(to);
    T* __restrict__ other = other_outlet.open(to + args.area);
    if (both)
      for (int64_t i = 0; i < size; ++i) {
        out[i] = in[i].re;
        other[i] = in[i].im;
      }
    else
      for (int64_t i = 0; i < size; ++i) out[i] = in[i].re;
    outlet.close(to, size);
    if (both) other_outlet.close(to + args.area, size);
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
