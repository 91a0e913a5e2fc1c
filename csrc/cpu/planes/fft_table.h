// The passes of a complex FFT of one length, and their roots of unity. Nothing here depends on the SIMD width.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "../../kernel_args/planes.h"

namespace steerlens {

template <typename T>
struct FftPass {
  int radix;
  int64_t size;                   // the length that is left to transform
  int64_t stride;                 // the product of the earlier passes' radices
  std::vector<Cplx<T>> twiddles;  // [size / radix, radix - 1]: exp(-2 pi i p k / size), k from 1
  std::vector<Cplx<T>> roots;     // [radix]: cos and sin of 2 pi k / radix
};

template <typename T>
struct FftTable {
  int64_t size;
  std::vector<FftPass<T>> passes;
};

// The table of one length. Tables are cached; any thread may call this.
template <typename T>
std::shared_ptr<const FftTable<T>> fft_table(int64_t size);

// The tables of all lengths that the transforms of `args` have.
template <typename T>
class FftTables {
 public:
  explicit FftTables(const PlaneArgs<T>& args);
  ~FftTables();  // not inline: kernels must not contain functions of std::map (levels.h)

  const FftTable<T>& of(int64_t size) const;
  int64_t max_size() const;

 private:
  void add(int64_t size);

  std::map<int64_t, std::shared_ptr<const FftTable<T>>> tables_;
};

}  // namespace steerlens
