// Checks the arguments of begin_l2_search and advance_l2_search, for B samples, and allocates their results.
#pragma once

#include "../checks.h"
#include "../math/l2_search.h"

namespace steerlens {

inline void check_doubles(const char* op, const ArgName& name, const Tensor& t, int64_t count) {
  check_type(op, name, t, ScalarType::Double);
  check_shape(op, name, t, {count});
}

struct BeginL2Search {
  Tensor limits;  // [5, B]: the fields of L2SearchLimits but `slope`
  Tensor source_l2;
  Tensor state;  // result
};

inline BeginL2Search prepare_begin_l2_search(const Tensor& limits, const Tensor& source_l2) {
  const char* op = "begin_l2_search";
  check_type(op, "limits", limits, ScalarType::Double);
  check_rank(op, "limits", limits, 2, "[5, B]");
  const int64_t count = limits.size(1);
  check_shape(op, "limits", limits, {5, count});
  check_doubles(op, "source_l2", source_l2, count);
  return {as_contiguous(limits), as_contiguous(source_l2),
          new_tensor(limits, {count, kL2SearchFields}, ScalarType::Double)};
}

struct AdvanceL2Search {
  Tensor before, l2;  // the previous state, and the distances at its factors
  Tensor state;       // result
};

inline AdvanceL2Search prepare_advance_l2_search(const Tensor& state, const Tensor& l2) {
  const char* op = "advance_l2_search";
  check_type(op, "state", state, ScalarType::Double);
  check_rank(op, "state", state, 2, "[B, fields]");
  const int64_t count = state.size(0);
  check_shape(op, "state", state, {count, kL2SearchFields});
  check_doubles(op, "l2", l2, count);
  return {as_contiguous(state), as_contiguous(l2),
          new_tensor(state, {count, kL2SearchFields}, ScalarType::Double)};
}

}  // namespace steerlens
