#include "pair.h"

#include "streaming_writer.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// A block of one pair of planes.
struct PairBlock {
  int64_t pair, offset, size;  // offset in a plane
};

template <typename T>
SL_FN PairBlock block_at(const PairArgs<T>& args, int64_t b) {
  const int64_t blocks = blocks_of(args.area, kBlockSize), offset = b % blocks * kBlockSize;
  return {b / blocks, offset, block_size(args.area, offset)};
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
SL_FN void pair_planes(const PairArgs<T>& args, int64_t begin, int64_t end) {
  StreamingWriter<Cplx<T>, kBlockSize> writer(args.runs * pairs_per_run(args) * args.area);
  for (int64_t b = begin; b < end; ++b) {
    const auto [pair, offset, size] = block_at(args, b);
    const Plane* __restrict first =
        static_cast<const Plane*>(args.planes) + first_plane(args, pair) * args.area + offset;
    const Plane* __restrict second = first + args.area;
    Cplx<T>* const to = args.pairs_out + pair * args.area + offset;
    Cplx<T>* __restrict out = writer.block(to);
    if (has_second(args, pair))
      for (int64_t i = 0; i < size; ++i) out[i] = {real_part(first[i]), real_part(second[i])};
    else
      for (int64_t i = 0; i < size; ++i) out[i] = {real_part(first[i]), T(0)};
    writer.flush(to, size);
  }
}

}  // namespace

template <typename T>
void pair_blocks(const PairArgs<T>& args, int64_t begin, int64_t end) {
  args.complex_planes ? pair_planes<Cplx<T>>(args, begin, end) : pair_planes<T>(args, begin, end);
}
STEERLENS_INSTANTIATE_KERNEL(pair_blocks, PairArgs)

template <typename T>
void unpair_blocks(const PairArgs<T>& args, int64_t begin, int64_t end) {
  const int64_t count = args.runs * args.run * args.area;
  StreamingWriter<T, kBlockSize> writer(count), second_writer(count);
  for (int64_t b = begin; b < end; ++b) {
    const auto [pair, offset, size] = block_at(args, b);
    const bool has_two = has_second(args, pair);
    const Cplx<T>* __restrict in = args.pairs + pair * args.area + offset;
    T* const to = args.planes_out + first_plane(args, pair) * args.area + offset;
    T* __restrict first = writer.block(to);
    T* __restrict second = second_writer.block(to + args.area);
    if (has_two)
      for (int64_t i = 0; i < size; ++i) {
        first[i] = in[i].re;
        second[i] = in[i].im;
      }
    else
      for (int64_t i = 0; i < size; ++i) first[i] = in[i].re;
    writer.flush(to, size);
    if (has_two) second_writer.flush(to + args.area, size);
  }
}
STEERLENS_INSTANTIATE_KERNEL(unpair_blocks, PairArgs)

}  // namespace steerlens::STEERLENS_CPU_LEVEL
