// The coefficients of one plane as step_planes writes and move_planes reads them: ordered by column blocks, like the
// data of the transforms.
#pragma once

#include <algorithm>

#include "../../kernel_args/morph.h"
#include "motion.h"

namespace steerlens::STEERLENS_CPU_LEVEL {
namespace {

// The coefficients of one group, or their gradient: [K, column blocks, h], `fields` vectors each. A writer for
// analysis.h.
struct GroupCoefficients {
  FloatVec* data;
  int64_t blocks, h;
  int fields;

  SL_FN FloatVec* at(int64_t k, int64_t block, int64_t y) const {
    return data + ((k * blocks + block) * h + y) * fields;
  }
  SL_FN CoefficientSpan span(int64_t k, int64_t block, int64_t count) const {
    return {reinterpret_cast<float*>(at(k, block, 0)), count, fields};
  }
  CoefficientSpan column_block(int64_t k, int64_t block) const { return span(k, block, h); }
  CoefficientSpan band(int64_t k) const { return span(k, 0, blocks * h); }

  SL_FN void write_complex(int64_t k, int64_t block, int64_t y, ComplexVec value) const {
    FloatVec* to = at(k, block, y);
    to[0] = value.re;
    to[1] = value.im;
  }
  SL_FN void write_real(int64_t k, int64_t block, int64_t y, FloatVec value) const {
    *at(k, block, y) = value;
  }
  SL_FN void write_two_blocks(int64_t k, int64_t block, int64_t y, ComplexVec value) const {
    write_real(k, block, y, value.re);
    if (block + 1 < blocks) write_real(k, block + 1, y, value.im);
  }
  // Reads back what write_two_blocks wrote for orientation 0.
  SL_FN ComplexVec read_two_blocks(int64_t block, int64_t y) const {
    return {*at(0, block, y), block + 1 < blocks ? *at(0, block + 1, y) : FloatVec{}};
  }
};

// The number of vectors that one field of a group's coefficients takes.
inline int64_t vectors_of(const PlaneGroup& group) {
  return group.K * blocks_of(group.w) * group.h;
}
inline int gradient_fields(const PlaneGroup& group) { return group.form == Form::kComplex ? 2 : 1; }

// The groups of one plane that move, then its residual.
using Groups = std::vector<GroupCoefficients>;

inline Groups groups_in(FloatVec* memory, const MorphArgs& args, const MotionKernels& motion) {
  Groups groups;
  for (const PlaneGroup& group : args.synthesis.groups) {
    groups.push_back({memory, blocks_of(group.w), group.h, motion.fields});
    memory += motion.fields * vectors_of(group);
  }
  groups.push_back({memory, blocks_of(args.synthesis.W), args.synthesis.H, 1});
  return groups;
}

inline MotionKernels motion_kernels(const MorphArgs& args) {
  MotionKernels motion;
  for_edit(args.moves_phase(), args.moves_amplitude(), args.rule, MakeMotionKernels{motion});
  return motion;
}

// The coefficients of plane n in args.coefficients.
inline Groups stored_groups(int64_t n, const MorphArgs& args, const MotionKernels& motion) {
  FloatVec* memory = reinterpret_cast<FloatVec*>(args.coefficients);
  return groups_in(memory + n * args.coefficient_vectors(kSimdWidth), args, motion);
}

}  // namespace
}  // namespace steerlens::STEERLENS_CPU_LEVEL
