// The gradient of the negative log likelihood of a target class: -log softmax(scores)[target].
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace steerlens {

// Writes the gradient with respect to the scores of one sample: softmax(scores) - onehot(target).
//
// The gradient of a class other than the target is computed as `missing` (1 - the target's probability) times the
// share of the class in `missing`. This is accurate even if the target's probability rounds to 1. A class other than
// the target with the score -inf always has the gradient 0. All other gradients are NaN if any score is NaN, or if a
// class other than the target has the score +inf.
template <typename T>
void nll_gradient(const T* scores, int64_t classes, int64_t target, T* gradient) {
  constexpr double kLowest = std::numeric_limits<T>::lowest();
  // Replaces -inf by the lowest finite number, so that differences are not NaN. NaN stays NaN.
  const auto finite = [&](int64_t i) {
    const double score = scores[i];
    return score < kLowest ? kLowest : score;
  };
  const auto other_score = [&](int64_t i) { return i == target ? kLowest : finite(i); };
  double largest = kLowest, total = 0;
  for (int64_t i = 0; i < classes; ++i) largest = std::max(largest, other_score(i));
  for (int64_t i = 0; i < classes; ++i) total += std::exp(other_score(i) - largest);
  const double log_total = std::log(total);
  // missing = 1 - the target's probability = 1 / (1 + exp(gap)), where gap = score - log(sum of exp(other scores)).
  const double gap = (static_cast<double>(scores[target]) - largest) - log_total;
  const double missing = gap > 0 ? std::exp(-gap) / (1 + std::exp(-gap)) : 1 / (1 + std::exp(gap));
  for (int64_t i = 0; i < classes; ++i) {
    const bool excluded = std::isinf(scores[i]) && scores[i] < 0;
    const double share = std::exp(other_score(i) - largest - log_total);
    gradient[i] = static_cast<T>(excluded ? 0 : share * missing);
  }
  gradient[target] = static_cast<T>(0 - missing);  // -missing could be -0
}

}  // namespace steerlens
