// The filters of an op as its kernels read them: [K, row blocks, w, kSimdWidth], where an element of a vector is one
// row of a row block, 0 where the band does not have that row. Each call lays them out anew, which takes only a few
// percent of the time of one plane; so the ops take plain filters [K, h, w], the same on every CPU, and cache nothing.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "../parallel.h"
#include "../scratch_memory.h"
#include "simd.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// Lays out columns x to x + count of one row block of a filter [h, w]; `bits` collects their bits. Inlined, so that
// `count` is a constant if all columns of a vector exist, which halves the time.
SL_FN void lay_out_columns(const float* filter, int64_t w, const RowBlock& rows, int64_t x,
                           int64_t count, float* out, BitsVec& bits) {
  FloatVec columns[kSimdWidth];
  for (int64_t lane = 0; lane < kSimdWidth; ++lane) {
    const int64_t y = rows.rows[lane];
    columns[lane] = y < 0 ? FloatVec{} : load_vec(filter + y * w + x, count);
  }
  transpose(columns);
  for (int64_t i = 0; i < count; ++i) {
    store_vec(out + (x + i) * kSimdWidth, columns[i]);
    bits |= reinterpret_cast<BitsVec>(columns[i]);
  }
}

// Lays out one row block of filter k; returns whether all of it is 0.
inline bool lay_out_block(const PlaneGroup& group, int64_t k, int64_t block, float* out) {
  const float* filter = group.filter + k * group.h * group.w;
  const RowBlock& rows = group.row_blocks[block];
  const int64_t w = group.w;
  BitsVec bits = {};
  for (int64_t x = 0; x + kSimdWidth <= w; x += kSimdWidth)
    lay_out_columns(filter, w, rows, x, kSimdWidth, out, bits);
  if (w < kSimdWidth)
    lay_out_columns(filter, w, rows, 0, w, out, bits);
  else if (w % kSimdWidth)  // overlaps the previous block
    lay_out_columns(filter, w, rows, w - kSimdWidth, kSimdWidth, out, bits);
  bits &= 0x7fffffff;  // -0 is 0
  bool zero = true;
  for (int64_t lane = 0; lane < kSimdWidth; ++lane) zero &= bits[lane] == 0;
  return zero;
}

inline int64_t floats_per_block(const PlaneGroup& group) { return group.w * kSimdWidth; }
inline int64_t filter_block_count(const PlaneGroup& group) {
  return group.K * static_cast<int64_t>(group.row_blocks.size());
}

// One block of a filter, and the memory that it is laid out in.
struct FilterBlock {
  PlaneGroup* group;
  int64_t index;  // of [K, row blocks]
  float* out;

  void lay_out() const {
    const int64_t blocks = group->row_blocks.size();
    group->zero_blocks[index] = lay_out_block(*group, index / blocks, index % blocks, out);
  }
};

using GroupLists = std::initializer_list<std::vector<PlaneGroup>*>;

// The filters of all groups, laid out.
class FilterMemory {
 public:
  explicit FilterMemory(GroupLists lists) : memory_(bytes(lists)) {
    const auto blocks = place(lists);
    const int64_t count = blocks.size(),
                  floats_per_element = 16;  // copying is that much cheaper than computing
    parallel_rows(count, floats(lists) / (floats_per_element * std::max<int64_t>(count, 1)),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t i = begin; i < end; ++i) blocks[i].lay_out();
                  });
  }

 private:
  static int64_t floats(GroupLists lists) {
    int64_t sum = 0;
    for (const auto* groups : lists)
      for (const PlaneGroup& group : *groups)
        sum += filter_block_count(group) * floats_per_block(group);
    return sum;
  }
  // One more byte for each block: whether all of it is 0.
  static int64_t bytes(GroupLists lists) {
    int64_t blocks = 0;
    for (const auto* groups : lists)
      for (const PlaneGroup& group : *groups) blocks += filter_block_count(group);
    return floats(lists) * static_cast<int64_t>(sizeof(float)) + blocks;
  }

  // Gives each group its part of the memory; returns all blocks.
  std::vector<FilterBlock> place(GroupLists lists) const {
    std::vector<FilterBlock> blocks;
    float* at = memory_.data<float>();
    uint8_t* zero_at = reinterpret_cast<uint8_t*>(at + floats(lists));
    for (auto* groups : lists)
      for (PlaneGroup& group : *groups) {
        const int64_t count = filter_block_count(group);
        group.filter_blocks = at;
        group.zero_blocks = zero_at;
        zero_at += count;
        for (int64_t i = 0; i < count; ++i, at += floats_per_block(group))
          blocks.push_back({&group, i, at});
      }
    return blocks;
  }

  ScratchMemory memory_;
};

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
