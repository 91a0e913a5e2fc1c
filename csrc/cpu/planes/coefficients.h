// The coefficients of one plane in a morph, ordered by column blocks. See the glossary in csrc/README.md.
#pragma once

#include <algorithm>

#include "../../kernel_args/morph.h"
#include "motion.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// The coefficients of one group, or their gradient: [K, column blocks, h], `fields` vectors each. The analysis calls
// the write_ functions (see analysis.h).
template <typename T>
struct GroupCoefficients {
  Vec<T>* data;
  int64_t blocks, h;
  int fields;

  SL_FN Vec<T>* at(int64_t k, int64_t block, int64_t y) const {
    return data + ((k * blocks + block) * h + y) * fields;
  }
  SL_FN CoefficientSpan<T> span(int64_t k, int64_t block, int64_t count) const {
    return {reinterpret_cast<T*>(at(k, block, 0)), count, fields};
  }
  CoefficientSpan<T> column_block(int64_t k, int64_t block) const { return span(k, block, h); }
  CoefficientSpan<T> band(int64_t k) const { return span(k, 0, blocks * h); }

  SL_FN void write_complex(int64_t k, int64_t block, int64_t y, ComplexVec<T> value) const {
    Vec<T>* to = at(k, block, y);
    to[0] = value.re;
    to[1] = value.im;
  }
  SL_FN void write_real(int64_t k, int64_t block, int64_t y, Vec<T> value) const {
    *at(k, block, y) = value;
  }
  SL_FN void write_two_blocks(int64_t k, int64_t block, int64_t y, ComplexVec<T> value) const {
    write_real(k, block, y, value.re);
    if (block + 1 < blocks) write_real(k, block + 1, y, value.im);
  }
  // Reads what write_two_blocks wrote. Only residuals are read like this; they have one band.
  SL_FN ComplexVec<T> read_two_blocks(int64_t block, int64_t y) const {
    return {*at(0, block, y), block + 1 < blocks ? *at(0, block + 1, y) : Vec<T>{}};
  }
};

// The number of vectors that one field of a group's coefficients takes.
template <typename T>
inline int64_t vectors_of(const PlaneGroup<T>& group) {
  return group.K * blocks_of<T>(group.w) * group.h;
}
// The gradient is complex only if the synthesis uses complex bands.
template <typename T>
inline int gradient_fields(const PlaneGroup<T>& group) {
  return group.form == Form::kComplex ? 2 : 1;
}

// The groups of one plane; the last is the residual, which no edit changes.
template <typename T>
using Groups = std::vector<GroupCoefficients<T>>;

template <typename T>
inline Groups<T> groups_in(Vec<T>* memory, const MorphArgs<T>& args,
                           const MotionKernels<T>& motion) {
  Groups<T> groups;
  for (const PlaneGroup<T>& group : args.synthesis.groups) {
    groups.push_back({memory, blocks_of<T>(group.w), group.h, motion.fields});
    memory += motion.fields * vectors_of(group);
  }
  groups.push_back({memory, blocks_of<T>(args.synthesis.W), args.synthesis.H, 1});
  return groups;
}

template <typename T>
inline MotionKernels<T> motion_kernels(const MorphArgs<T>& args) {
  MotionKernels<T> motion{};
  for_edit(args.moves_phase(), args.moves_amplitude(), args.rule, MakeMotionKernels<T>{motion});
  return motion;
}

// The coefficients of plane n in args.coefficients.
template <typename T>
inline Groups<T> stored_groups(int64_t n, const MorphArgs<T>& args,
                               const MotionKernels<T>& motion) {
  Vec<T>* memory = reinterpret_cast<Vec<T>*>(args.coefficients);
  return groups_in(memory + n * args.coefficient_vectors(kSimdWidth<T>), args, motion);
}

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
