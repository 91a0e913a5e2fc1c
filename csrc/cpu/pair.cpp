// pair and unpair on the CPU.
#include "../prepare/pair.h"
#include "kernels/pair.h"
#include "parallel.h"

namespace steerlens {
namespace {

// Calls body(begin, end) for ranges of the blocks of all pairs, in parallel.
template <typename T, typename Body>
void parallel_blocks(const PairArgs<T>& args, const Body& body) {
  const int64_t blocks = args.runs * pairs_per_run(args) * blocks_of(args.area, kBlockSize);
  parallel_rows(blocks, 2 * block_size(args.area, 0), body);  // the first block is the largest
}

Tensor pair(Tensor planes, int64_t run) {
  auto p = prepare_pair(planes, run);
  run_kernel(p, [](const auto& args) {
    parallel_blocks(args, [&](int64_t begin, int64_t end) { pair_blocks(args, begin, end); });
  });
  return p.pairs;
}

Tensor unpair(Tensor pairs, int64_t run) {
  auto p = prepare_unpair(pairs, run);
  run_kernel(p, [](const auto& args) {
    parallel_blocks(args, [&](int64_t begin, int64_t end) { unpair_blocks(args, begin, end); });
  });
  return p.planes;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CPU, m) {
  m.impl("pair", TORCH_BOX(&pair));
  m.impl("unpair", TORCH_BOX(&unpair));
}

}  // namespace steerlens
