// The filters of an op in the layout that its kernels read: [K, row blocks, w, kSimdWidth]. Each element of a vector is
// one row of a row block, and 0 if the band does not have that row.
//
// Ops take plain filters [K, h, w], which are the same on every CPU, and lay them out in each call. This takes a few
// percent of the time in which an op processes one plane.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <limits>

#include "../parallel.h"
#include "../scratch_memory.h"
#include "simd.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// Lays out columns x to x + count of one row block of a filter [h, w]. `bits` collects the bits of all values: it stays
// 0 if all values are 0. Laying out takes half the time if the compiler knows `count`, so this function is inlined.
template <typename T>
SL_FN void lay_out_columns(const T* filter, int64_t w, const RowBlock& rows, int64_t x,
                           int64_t count, T* out, BitsVec<T>& bits) {
  Vec<T> columns[kSimdWidth<T>];
  for (int64_t lane = 0; lane < kSimdWidth<T>; ++lane) {
    const int64_t y = rows.rows[lane];
    columns[lane] = y < 0 ? Vec<T>{} : load_vec(filter + y * w + x, count);
  }
  transpose(columns);
  for (int64_t i = 0; i < count; ++i) {
    store_vec(out + (x + i) * kSimdWidth<T>, columns[i]);
    bits |= reinterpret_cast<BitsVec<T>>(columns[i]);
  }
}

// Lays out one row block of filter k; returns whether all of it is 0.
template <typename T>
inline bool lay_out_block(const PlaneGroup<T>& group, int64_t k, int64_t block, T* out) {
  const T* filter = group.filter + k * group.h * group.w;
  const RowBlock& rows = group.row_blocks[block];
  const int64_t w = group.w;
  BitsVec<T> bits = {};
  for (int64_t x = 0; x + kSimdWidth<T> <= w; x += kSimdWidth<T>)
    lay_out_columns(filter, w, rows, x, kSimdWidth<T>, out, bits);
  if (w < kSimdWidth<T>)
    lay_out_columns(filter, w, rows, 0, w, out, bits);
  else if (w % kSimdWidth<T>)  // the last columns; some of them are laid out again
    lay_out_columns(filter, w, rows, w - kSimdWidth<T>, kSimdWidth<T>, out, bits);
  bits &= std::numeric_limits<decltype(bits_of(T()))>::max();  // -0 is 0
  bool zero = true;
  for (int64_t lane = 0; lane < kSimdWidth<T>; ++lane) zero &= bits[lane] == 0;
  return zero;
}

template <typename T>
inline int64_t elements_per_block(const PlaneGroup<T>& group) {
  return group.w * kSimdWidth<T>;
}
template <typename T>
inline int64_t filter_block_count(const PlaneGroup<T>& group) {
  return group.K * static_cast<int64_t>(group.row_blocks.size());
}

// One block of a filter, and the memory that it is laid out in.
template <typename T>
struct FilterBlock {
  PlaneGroup<T>* group;
  int64_t index;  // index in [K, row blocks]
  T* out;

  void lay_out() const {
    const int64_t blocks = group->row_blocks.size();
    group->zero_blocks[index] = lay_out_block(*group, index / blocks, index % blocks, out);
  }
};

template <typename T>
using GroupLists = std::initializer_list<std::vector<PlaneGroup<T>>*>;

// The filters of all groups, laid out.
template <typename T>
class FilterMemory {
 public:
  explicit FilterMemory(GroupLists<T> lists) : memory_(bytes(lists)) {
    const auto blocks = place(lists);
    const int64_t count = blocks.size();
    // Laying out an element takes a sixteenth of the time that parallel_rows assumes for an element.
    constexpr int64_t kCostRatio = 16;
    parallel_rows(count, elements(lists) / (kCostRatio * std::max<int64_t>(count, 1)),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t i = begin; i < end; ++i) blocks[i].lay_out();
                  });
  }

 private:
  static int64_t elements(GroupLists<T> lists) {
    int64_t sum = 0;
    for (const auto* groups : lists)
      for (const PlaneGroup<T>& group : *groups)
        sum += filter_block_count(group) * elements_per_block(group);
    return sum;
  }
  // One more byte for each block: whether all of it is 0.
  static int64_t bytes(GroupLists<T> lists) {
    int64_t blocks = 0;
    for (const auto* groups : lists)
      for (const PlaneGroup<T>& group : *groups) blocks += filter_block_count(group);
    return elements(lists) * static_cast<int64_t>(sizeof(T)) + blocks;
  }

  // Gives each group its part of the memory; returns all blocks.
  std::vector<FilterBlock<T>> place(GroupLists<T> lists) const {
    std::vector<FilterBlock<T>> blocks;
    T* at = memory_.template data<T>();
    uint8_t* zero_at = reinterpret_cast<uint8_t*>(at + elements(lists));
    for (auto* groups : lists)
      for (PlaneGroup<T>& group : *groups) {
        const int64_t count = filter_block_count(group);
        group.filter_blocks = at;
        group.zero_blocks = zero_at;
        zero_at += count;
        for (int64_t i = 0; i < count; ++i, at += elements_per_block(group))
          blocks.push_back({&group, i, at});
      }
    return blocks;
  }

  ScratchMemory memory_;
};

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
