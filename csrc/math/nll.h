// The gradient of the negative log likelihood of a target class: -log softmax(scores)[target].
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace steerlens {

// Writes the gradient with respect to the scores of one sample. It is softmax(scores) - onehot(target), computed as a
// product, which is accurate even where the target's probability rounds to 1. NaN in a score makes all of it NaN.
// Scores of -inf have the gradient 0.
template <typename T>
void nll_gradient(const T* scores, int64_t classes, int64_t target, T* gradient) {
  constexpr double kLowest = std::numeric_limits<T>::lowest();
  // -inf as the lowest number, whose difference from another is not NaN; NaN stays NaN.
  const auto finite = [&](int64_t i) {
    const double score = scores[i];
    return score < kLowest ? kLowest : score;
  };
  const auto other = [&](int64_t i) { return i == target ? kLowest : finite(i); };
  double largest = kLowest, total = 0;
  for (int64_t i = 0; i < classes; ++i) largest = std::max(largest, other(i));
  for (int64_t i = 0; i < classes; ++i) total += std::exp(other(i) - largest);
  const double log_total = std::log(total);
  // 1 - the target's probability; the gap is that between the target's score and the log of all others' sum.
  const double gap = (static_cast<double>(scores[target]) - largest) - log_total;
  const double missing = gap > 0 ? std::exp(-gap) / (1 + std::exp(-gap)) : 1 / (1 + std::exp(gap));
  for (int64_t i = 0; i < classes; ++i) {
    const bool excluded = std::isinf(scores[i]) && scores[i] < 0;
    const double share = std::exp(other(i) - largest - log_total);
    gradient[i] = static_cast<T>(excluded ? 0 : share * missing);
  }
  gradient[target] = static_cast<T>(0 - missing);
}

}  // namespace steerlens
