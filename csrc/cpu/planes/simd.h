// Vectors that fill a register of the CPU level: STEERLENS_SIMD_WIDTH floats (4, 8 or 16), or half as many doubles.
// Uses GNU C's vector extensions (csrc/README.md). T is float or double, here and in all headers that include this one.
#pragma once

#include <algorithm>
#include <cstring>
#include <utility>

#include "../../kernel_args/planes.h"
#include "../../math/common.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

constexpr int kVecBytes = 4 * STEERLENS_SIMD_WIDTH;

// The number of elements of a vector.
template <typename T>
constexpr int64_t kSimdWidth = kVecBytes / sizeof(T);

template <typename T>
SL_FN constexpr int64_t blocks_of(int64_t n) {
  return steerlens::blocks_of(n, kSimdWidth<T>);
}

template <typename T>
struct VecTypes;
template <>
struct VecTypes<float> {
  typedef float Aligned __attribute__((vector_size(kVecBytes)));
  typedef float Unaligned __attribute__((vector_size(kVecBytes), aligned(4), may_alias));
  typedef int32_t Bits __attribute__((vector_size(kVecBytes)));
};
template <>
struct VecTypes<double> {
  typedef double Aligned __attribute__((vector_size(kVecBytes)));
  typedef double Unaligned __attribute__((vector_size(kVecBytes), aligned(8), may_alias));
  typedef int64_t Bits __attribute__((vector_size(kVecBytes)));
};
template <typename T>
using Vec = typename VecTypes<T>::Aligned;
template <typename T>
using BitsVec = typename VecTypes<T>::Bits;

// Complex numbers with their real and imaginary parts in separate registers: products need no shuffles.
template <typename T>
struct ComplexVec {
  Vec<T> re, im;
};

template <typename T>
SL_FN ComplexVec<T> operator+(ComplexVec<T> a, ComplexVec<T> b) {
  return {a.re + b.re, a.im + b.im};
}
template <typename T>
SL_FN ComplexVec<T> operator-(ComplexVec<T> a, ComplexVec<T> b) {
  return {a.re - b.re, a.im - b.im};
}
template <typename T>
SL_FN ComplexVec<T> operator*(ComplexVec<T> a, ComplexVec<T> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
template <typename T>
SL_FN ComplexVec<T> operator*(T s, ComplexVec<T> a) {
  return {s * a.re, s * a.im};
}
template <typename T>
SL_FN ComplexVec<T> operator*(ComplexVec<T> a, Cplx<T> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
template <typename T>
SL_FN ComplexVec<T> swap_parts(ComplexVec<T> a) {
  return {a.im, a.re};
}
template <typename T>
SL_FN ComplexVec<T> times_minus_i(ComplexVec<T> a) {
  return {a.im, -a.re};
}

// The first `count` numbers in memory, then zeros; all zeros where `count` is not positive.
template <typename T>
SL_FN Vec<T> load_vec(const T* from, int64_t count = kSimdWidth<T>) {
  if (count >= kSimdWidth<T>)
    return *reinterpret_cast<const typename VecTypes<T>::Unaligned*>(from);
  Vec<T> out = {};
  if (count > 0) std::memcpy(&out, from, count * sizeof(T));
  return out;
}

// As load_vec, for up to two vectors of numbers. The first vector becomes the real part, the next the imaginary part.
template <typename T>
SL_FN ComplexVec<T> load_vec_pair(const T* from, int64_t count) {
  return {load_vec(from, count), load_vec(from + kSimdWidth<T>, count - kSimdWidth<T>)};
}

template <typename T>
SL_FN void store_vec(T* to, Vec<T> value, int64_t count = kSimdWidth<T>) {
  if (count >= kSimdWidth<T>)
    *reinterpret_cast<typename VecTypes<T>::Unaligned*>(to) = value;
  else if (count > 0)
    std::memcpy(to, &value, count * sizeof(T));
}

// --- Shuffles of vectors of type V, which is Vec<float> or Vec<double>

template <typename V>
constexpr int kElements = kVecBytes / sizeof(std::declval<V&>()[0]);

// The elements of a and b that the indices select; those of b are numbered after those of a.
template <int... kIndices, typename V>
SL_FN V select(V a, V b) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, kIndices...);
#else
  using Mask = decltype(a < b);
  return __builtin_shuffle(a, b, Mask{kIndices...});
#endif
}

// The elements that Pattern::index(i, n) selects for i = 0 ... n - 1, where n is the number of elements.
template <typename Pattern, typename V, int... i>
SL_FN V select_by(V a, V b, std::integer_sequence<int, i...>) {
  return select<Pattern::index(i, sizeof...(i))...>(a, b);
}
template <typename Pattern, typename V>
SL_FN V select_by(V a, V b) {
  return select_by<Pattern>(a, b, std::make_integer_sequence<int, kElements<V>>());
}

// The vectors a and b are cut into kParts parts. In each part, the first (kHalf 0) or second (kHalf 1) halves of a and b
// are interleaved: a0 b0 a1 b1 ...
template <int kParts, int kHalf>
struct Interleaved {
  static constexpr int index(int i, int n) {
    const int size = n / kParts, i_in_part = i % size;
    return i - i_in_part + kHalf * size / 2 + i_in_part / 2 + i_in_part % 2 * n;
  }
};
// Every second element.
template <int kFirst>
struct Strided {
  static constexpr int index(int i, int) { return kFirst + 2 * i; }
};
// The first halves (kHalf 0) or the second halves (kHalf 1) of both.
template <int kHalf>
struct Halves {
  static constexpr int index(int i, int n) { return i + (i < n / 2 ? 0 : n / 2) + kHalf * n / 2; }
};

template <typename V>
SL_FN V interleave_low(V a, V b) {
  return select_by<Interleaved<1, 0>>(a, b);
}
template <typename V>
SL_FN V interleave_high(V a, V b) {
  return select_by<Interleaved<1, 1>>(a, b);
}

// Interleaving row i with row i + n/2 transposes n rows, if done log2(n) times.
template <int kParts, int kRows, typename V>
SL_FN void interleave_rows(const V* from, V* to) {
  for (int i = 0; i < kRows / 2; ++i) {
    to[2 * i] = select_by<Interleaved<kParts, 0>>(from[i], from[i + kRows / 2]);
    to[2 * i + 1] = select_by<Interleaved<kParts, 1>>(from[i], from[i + kRows / 2]);
  }
}

// Transposes each of the kParts square blocks of kRows rows. kRest is 2^(number of interleavings that remain).
template <int kParts, int kRows, int kRest = kRows, typename V>
SL_FN void transpose_blocks(V* rows) {
  V interleaved[kRows];
  interleave_rows<kParts, kRows>(rows, interleaved);
  if constexpr (kRest == 2) {
    for (int i = 0; i < kRows; ++i) rows[i] = interleaved[i];
  } else {
    interleave_rows<kParts, kRows>(interleaved, rows);
    if constexpr (kRest > 4) transpose_blocks<kParts, kRows, kRest / 4>(rows);
  }
}

template <typename V, size_t kRows>
SL_FN void transpose(V (&rows)[kRows]) {
  if constexpr (kVecBytes != 32) {
    transpose_blocks<1, kRows>(rows);
  } else {  // AVX2's cheap shuffles do not cross the halves of a register: exchange blocks, then transpose each of them
    constexpr int kBlockRows = kRows / 2;
    for (int i = 0; i < kBlockRows; ++i) {
      const V a = rows[i], b = rows[i + kBlockRows];
      rows[i] = select_by<Halves<0>>(a, b);
      rows[i + kBlockRows] = select_by<Halves<1>>(a, b);
    }
    transpose_blocks<2, kBlockRows>(rows);
    transpose_blocks<2, kBlockRows>(rows + kBlockRows);
  }
}

// The sum of the first `count` elements, or of all if `count` is larger.
template <typename T>
inline double sum_of(Vec<T> v, int64_t count) {
  double sum = 0;
  for (int64_t lane = 0; lane < std::min(count, kSimdWidth<T>); ++lane) sum += v[lane];
  return sum;
}

// The first `count` complex numbers in memory, then zeros.
template <typename T>
SL_FN ComplexVec<T> load_complex(const T* from, int64_t count) {
  const Vec<T> a = load_vec(from, 2 * count),
               b = load_vec(from + kSimdWidth<T>, 2 * count - kSimdWidth<T>);
  return {select_by<Strided<0>>(a, b), select_by<Strided<1>>(a, b)};
}

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
