// begin_l2_search and advance_l2_search: one state for each sample. On one thread, since samples are few and cheap.
#include "../prepare/l2_search.h"

namespace steerlens {
namespace {

Tensor begin_l2_search(Tensor limits, Tensor source_l2, double epsilon) {
  auto p = prepare_begin_l2_search(limits, source_l2);
  const int64_t count = p.state.size(0);
  const double* limits_data = const_data<double>(p.limits);  // [5, B]
  const double* l2 = const_data<double>(p.source_l2);
  L2Search* state = mutable_data<L2Search>(p.state);
  for (int64_t n = 0; n < count; ++n) {
    const auto row = [&](int64_t i) { return limits_data[i * count + n]; };
    // The rows have the order of the members of L2SearchLimits.
    state[n] = L2Search::begin({row(0), row(1), row(2), row(3), row(4)}, l2[n], epsilon);
  }
  return p.state;
}

Tensor advance_l2_search(Tensor state, Tensor l2) {
  auto p = prepare_advance_l2_search(state, l2);
  const L2Search* before = const_data<L2Search>(p.before);
  const double* distances = const_data<double>(p.l2);
  L2Search* after = mutable_data<L2Search>(p.state);
  for (int64_t n = 0; n < p.state.size(0); ++n) {
    after[n] = before[n];
    after[n].advance(distances[n]);
  }
  return p.state;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CPU, m) {
  m.impl("begin_l2_search", TORCH_BOX(&begin_l2_search));
  m.impl("advance_l2_search", TORCH_BOX(&advance_l2_search));
}

}  // namespace steerlens
