// Checks the arguments of nll_gradient (scores of N samples, and their targets), and allocates its result.
#pragma once

#include "../checks.h"

namespace steerlens {

struct NllGradient {
  Tensor scores, target;
  Tensor gradient;  // result
};

inline NllGradient prepare_nll_gradient(const Tensor& scores, const Tensor& target) {
  const char* op = "nll_gradient";
  check_floating(op, "scores", scores, false);
  check_rank(op, "scores", scores, 2, "[N, classes]");
  check_type(op, "target", target, ScalarType::Long);
  check_shape(op, "target", target, {scores.size(0)});
  check_same_device(op, "target", target, "scores", scores);
  return {as_contiguous(scores), as_contiguous(target),
          new_tensor(scores, shape_of(scores), scores.scalar_type())};
}

}  // namespace steerlens
