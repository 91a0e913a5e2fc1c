// pair and unpair on CUDA.
#include "../prepare/pair.h"

#include "launch.h"

namespace steerlens {
namespace {

struct PairPlace {
  // The value at index i of the pairs has index i + shift in the planes, for the first plane of a pair.
  int64_t shift;
  bool has_second;
};

template <typename T>
struct PairOpBase {
  static constexpr int kPerThread = 16 / sizeof(T);
  PairArgs<T> args;

  __device__ PairPlace plane_data(int64_t pair) const {
    return {(first_plane(args, pair) - pair) * args.area, has_second(args, pair)};
  }
};

template <typename T>
struct PairOp : PairOpBase<T> {
  // The values of a plane. Their indices are those in the pairs plus `shift`.
  template <typename P>
  __device__ Pack<T, P::kCount> read_plane(int64_t shift, P pieces) const {
    if (!this->args.complex_planes)
      return load(static_cast<const T*>(this->args.planes) + shift, pieces);
    const auto c = load(static_cast<const Cplx<T>*>(this->args.planes) + shift, pieces);
    Pack<T, P::kCount> real;
#pragma unroll
    for (int j = 0; j < P::kCount; ++j) real.v[j] = c.v[j].re;
    return real;
  }

  template <typename P>
  __device__ void apply(PairPlace place, P pieces) const {
    constexpr int kCount = P::kCount;
    const auto first = read_plane(place.shift, pieces);
    Pack<T, kCount> second{};
    if (place.has_second) second = read_plane(place.shift + this->args.area, pieces);
    Pack<Cplx<T>, kCount> out;
#pragma unroll
    for (int j = 0; j < kCount; ++j) out.v[j] = {first.v[j], second.v[j]};
    store(this->args.pairs_out, pieces, out);
  }
};

template <typename T>
struct UnpairOp : PairOpBase<T> {
  template <typename P>
  __device__ void apply(PairPlace place, P pieces) const {
    constexpr int kCount = P::kCount;
    const auto in = load(this->args.pairs, pieces);
    Pack<T, kCount> first, second;
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      first.v[j] = in.v[j].re;
      second.v[j] = in.v[j].im;
    }
    store(this->args.planes_out + place.shift, pieces, first);
    if (place.has_second)
      store(this->args.planes_out + place.shift + this->args.area, pieces, second);
  }
};

template <template <typename> class Op, typename T>
void launch(const PairArgs<T>& args, const Tensor& on) {
  const bool wide = aligned({args.pairs_out, args.pairs, args.planes, args.planes_out});
  for_each_coefficient<kWidePiece<T>>(Op<T>{{args}}, args.runs * pairs_per_run(args), args.area,
                                      wide, Launcher(on));
}

Tensor pair(Tensor planes, int64_t run) {
  auto p = prepare_pair(planes, run);
  run_kernel(p, [&](const auto& args) { launch<PairOp>(args, p.pairs); });
  return p.pairs;
}

Tensor unpair(Tensor pairs, int64_t run) {
  auto p = prepare_unpair(pairs, run);
  run_kernel(p, [&](const auto& args) { launch<UnpairOp>(args, p.pairs); });
  return p.planes;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CUDA, m) {
  m.impl("pair", TORCH_BOX(&pair));
  m.impl("unpair", TORCH_BOX(&unpair));
}

}  // namespace steerlens
