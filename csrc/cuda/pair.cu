// pair and unpair on CUDA: one thread per 16 bytes of each real plane.
#include "../args/pair.h"

#include "launch.h"

namespace steerlens {
namespace {

struct PairPlace {
  int64_t shift;  // from a pair's place to its first plane's
  bool has_second;
};

template <typename T>
struct PairOpBase {
  static constexpr int kWide = 16 / sizeof(T);
  PairArgs<T> args;

  __device__ PairPlace plane_data(int64_t pair) const {
    return {(first_plane(args, pair) - pair) * args.area, has_second(args, pair)};
  }
};

template <typename T>
struct PairOp : PairOpBase<T> {
  template <int kCount>
  __device__ Pack<T, kCount> read_plane(int64_t at) const {
    if (!this->args.complex_planes)
      return load<kCount>(static_cast<const T*>(this->args.planes) + at);
    const auto c = load<kCount>(static_cast<const Cplx<T>*>(this->args.planes) + at);
    Pack<T, kCount> real;
#pragma unroll
    for (int j = 0; j < kCount; ++j) real.v[j] = c.v[j].re;
    return real;
  }

  template <int kCount>
  __device__ void at(PairPlace pair, int64_t i) const {
    const auto first = read_plane<kCount>(i + pair.shift);
    Pack<T, kCount> second{};
    if (pair.has_second) second = read_plane<kCount>(i + pair.shift + this->args.area);
    Pack<Cplx<T>, kCount> out;
#pragma unroll
    for (int j = 0; j < kCount; ++j) out.v[j] = {first.v[j], second.v[j]};
    store(this->args.pairs_out + i, out);
  }
};

template <typename T>
struct UnpairOp : PairOpBase<T> {
  template <int kCount>
  __device__ void at(PairPlace pair, int64_t i) const {
    const auto in = load<kCount>(this->args.pairs + i);
    Pack<T, kCount> first, second;
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      first.v[j] = in.v[j].re;
      second.v[j] = in.v[j].im;
    }
    store(this->args.planes_out + i + pair.shift, first);
    if (pair.has_second) store(this->args.planes_out + i + pair.shift + this->args.area, second);
  }
};

template <template <typename> class Op, typename T>
void launch(const PairArgs<T>& args, const Tensor& on) {
  const bool wide = args.area % Op<T>::kWide == 0 &&  // else planes begin inside a 16-byte access
                    aligned({args.pairs_out, args.pairs, args.planes, args.planes_out});
  for_each_coefficient(Op<T>{{args}}, args.runs * pairs_per_run(args), args.area, wide,
                       Launcher(on));
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
