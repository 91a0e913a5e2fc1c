#include "fft_table.h"

#include <cmath>
#include <mutex>
#include <type_traits>
#include <unordered_map>
#include <utility>

namespace steerlens {
namespace {

// A table takes about 2 KiB (float) or 4 KiB (double) for 224 points, and 128 or 256 KiB for the longest FFT (2^14
// points). A full cache is emptied; tables in use stay alive, since their users share ownership.
constexpr size_t kMaxCachedTables = 256;

// Radices 8 and 4 first, which take the fewest operations per point; then the odd prime factors. 16 is 4 x 4, not 8 x 2,
// so radix 2 is needed only if n has a single factor 2.
std::vector<int> radices_of(int64_t n) {
  std::vector<int> out;
  int twos = 0;
  for (; n % 2 == 0; n /= 2) ++twos;
  for (; twos > 4 || twos == 3; twos -= 3) out.push_back(8);
  for (; twos >= 2; twos -= 2) out.push_back(4);
  if (twos == 1) out.push_back(2);
  for (int prime = 3; n > 1; prime += 2)
    for (; n % prime == 0; n /= prime) out.push_back(prime);
  return out;
}

// exp(2 pi i k / n), computed in a wider type and rounded to T.
template <typename T>
Cplx<T> root_of_unity(int64_t k, int64_t n) {
  using W = std::conditional_t<std::is_same_v<T, float>, double, long double>;
  constexpr W kTwoPi = W(6.28318530717958647692528676655900577L);
  const W angle = kTwoPi * (static_cast<W>(k) / static_cast<W>(n));
  return {static_cast<T>(std::cos(angle)), static_cast<T>(std::sin(angle))};
}

template <typename T>
FftTable<T> make_table(int64_t size) {
  FftTable<T> table{size, {}};
  int64_t remaining = size;
  for (const int radix : radices_of(size)) {
    FftPass<T> pass{radix, remaining, size / remaining, {}, {}};
    for (int64_t p = 0; p < remaining / radix; ++p)
      for (int k = 1; k < radix; ++k) pass.twiddles.push_back(root_of_unity<T>(-p * k, remaining));
    for (int k = 0; k < radix; ++k) pass.roots.push_back(root_of_unity<T>(k, radix));
    table.passes.push_back(std::move(pass));
    remaining /= radix;
  }
  return table;
}

template <typename T>
using SharedTable = std::shared_ptr<const FftTable<T>>;

// The cached tables. No method waits for the lock: if this process was forked while another thread held the lock, it is
// held forever. Without the lock, a method does nothing.
template <typename T>
class TableCache {
 public:
  SharedTable<T> find(int64_t size) {
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return nullptr;
    const auto entry = tables_.find(size);
    return entry == tables_.end() ? nullptr : entry->second;
  }

  void add(int64_t size, const SharedTable<T>& table) {
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return;
    if (tables_.size() >= kMaxCachedTables) tables_.clear();
    tables_.emplace(size, table);
  }

 private:
  std::mutex mutex_;
  std::unordered_map<int64_t, SharedTable<T>> tables_;
};

template <typename T>
TableCache<T> cache;  // made when the library is loaded

}  // namespace

template <typename T>
std::shared_ptr<const FftTable<T>> fft_table(int64_t size) {
  SharedTable<T> table = cache<T>.find(size);
  if (table == nullptr) {
    table = std::make_shared<const FftTable<T>>(make_table<T>(size));
    cache<T>.add(size, table);
  }
  return table;
}

template <typename T>
FftTables<T>::FftTables(const PlaneArgs<T>& args) {
  add(args.H);
  add(args.W);
  for (const PlaneGroup<T>& group : args.groups) {
    add(group.h);
    add(group.w);
  }
}

template <typename T>
FftTables<T>::~FftTables() = default;

template <typename T>
const FftTable<T>& FftTables<T>::of(int64_t size) const {
  return *tables_.at(size);
}

template <typename T>
int64_t FftTables<T>::max_size() const {
  return tables_.rbegin()->first;
}

template <typename T>
void FftTables<T>::add(int64_t size) {
  if (!tables_.count(size)) tables_.emplace(size, fft_table<T>(size));
}

template class FftTables<float>;
template class FftTables<double>;

}  // namespace steerlens
