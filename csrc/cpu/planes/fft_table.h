// The passes of a complex FFT of one length, and their roots of unity. Nothing here depends on the SIMD width.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "../../kernel_args/planes.h"

namespace steerlens {

struct FftPass {
  int radix;
  int64_t size;                       // the length that is left to transform
  int64_t stride;                     // the product of the earlier passes' radices
  std::vector<Cplx<float>> twiddles;  // [size / radix, radix - 1]
  std::vector<Cplx<float>> roots;     // [radix]: exp(2 pi i k / radix)
};

struct FftTable {
  int64_t size;
  std::vector<FftPass> passes;
};

// The table of one length. Tables are made once per process and cached; any thread may call this.
std::shared_ptr<const FftTable> fft_table(int64_t size);

// The tables of all lengths that the transforms of `args` have.
class FftTables {
 public:
  explicit FftTables(const PlaneArgs& args);
  ~FftTables();  // not inline: kernels must not contain functions of std::map (levels.h)

  const FftTable& of(int64_t size) const;
  int64_t max_size() const;

 private:
  void add(int64_t size);

  std::map<int64_t, std::shared_ptr<const FftTable>> tables_;
};

}  // namespace steerlens
