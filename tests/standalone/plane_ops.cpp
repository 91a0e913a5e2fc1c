// Compares the CPU's kernels of the ops on whole planes with reference.h. The program needs neither torch nor Python, so
// it can be cross compiled and run in an emulator (.ci/standalone).
//
//     plane_ops SIMD_WIDTH     also fails if the kernels have another SIMD width
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "args/row_blocks.h"
#include "cpu/kernels/planes.h"
#include "reference.h"
#include "without_torch.h"

namespace {

using namespace steerlens;
using Floats = std::vector<float>;
using Grids = std::vector<reference::Grid>;

// Relative to the largest value; the same as "pyramid" and "render" in tests/tolerances.py.
constexpr double kPyramidTolerance = 3e-6, kRenderTolerance = 3e-5;

struct Size {
  int64_t K, h, w;
};

// `count` planes of H x W, and the size of each group of bands.
struct Shape {
  const char* name;
  int64_t count, H, W;
  std::vector<Size> groups;
};

const std::vector<Shape> kShapes = {
    {"even", 2, 32, 24, {{4, 32, 24}, {3, 16, 12}, {1, 8, 6}}},
    {"odd", 3, 35, 27, {{3, 35, 27}, {2, 18, 14}, {1, 9, 7}}},
    {"primes", 1, 37, 53, {{2, 37, 53}, {3, 19, 27}, {1, 11, 13}}},
    {"largest prime", 1, 61, 59, {{1, 61, 59}, {2, 31, 30}}},
    {"even in odd", 2, 33, 35, {{2, 16, 18}, {1, 6, 4}}},
    {"1x1", 2, 1, 1, {{2, 1, 1}}},
    {"1x6", 2, 1, 6, {{2, 1, 6}, {1, 1, 3}}},
    {"6x1", 2, 6, 1, {{3, 6, 1}, {1, 3, 1}}},
    {"64x64", 2, 64, 64, {{4, 64, 64}, {3, 32, 32}, {1, 8, 8}}},
};
// One plane, so that two threads must share it.
const Shape kShared = {"shared", 1, 128, 136, {{3, 128, 136}, {1, 64, 68}}};

int failures = 0;

void check(bool passed, const std::string& label, double error = 0) {
  if (passed) return;
  ++failures;
  std::printf("FAILED %s: error %.2g\n", label.c_str(), error);
}

Floats random_floats(int64_t count, float low, float high, unsigned seed) {
  std::mt19937 engine(seed);
  Floats out(count);
  for (float& value : out)
    value = low + (high - low) * static_cast<float>(static_cast<double>(engine()) / 4294967296.0);
  return out;
}

// Returns grid `index` of an array of grids, in which each value has `parts` floats.
reference::Grid grid_of(const Floats& from, int64_t index, int64_t h, int64_t w, int parts = 1) {
  reference::Grid grid(h, w);
  const float* at = from.data() + index * h * w * parts;
  for (int64_t i = 0; i < h * w; ++i)
    grid.values[i] = {at[parts * i], parts == 2 ? at[2 * i + 1] : 0.0f};
  return grid;
}

// Compares the grids from `first` on, stored as for grid_of, with the expected ones.
void compare(const Floats& actual, int64_t first, const Grids& expected, int parts,
             double tolerance, const std::string& label) {
  double largest = 0, error = 0;
  for (size_t k = 0; k < expected.size(); ++k) {
    const reference::Grid& grid = expected[k];
    const reference::Grid found = grid_of(actual, first + k, grid.h, grid.w, parts);
    for (size_t i = 0; i < grid.values.size(); ++i) {
      largest = std::max(largest, std::abs(grid.values[i]));
      error = std::max(error, std::abs(found.values[i] - grid.values[i]));
    }
  }
  check(error <= tolerance * largest, label, error / largest);  // false for NaN
}

// Groups of bands with random filters, in the forms that the kernels and the reference read.
struct Groups {
  std::vector<Floats> filters;
  std::vector<PlaneGroup<float>> groups;
  std::vector<reference::Group> expected;

  void add(const Size& size, int64_t H, Form form, int i_power, float scale) {
    const unsigned seed = static_cast<unsigned>(filters.size());
    filters.push_back(random_floats(size.K * size.h * size.w, 0.5f * scale, 1.5f * scale, seed));
    PlaneGroup<float> group{};
    group.filter = filters.back().data();
    group.K = size.K;
    group.h = size.h;
    group.w = size.w;
    group.i_power = i_power;
    group.form = form;
    group.stride = form == Form::kReal ? 1 : 2;
    group.row_blocks = row_blocks(size.h, H, simd_width());
    groups.push_back(group);
    reference::Group same{{}, i_power, form == Form::kComplex};
    for (int64_t k = 0; k < size.K; ++k)
      same.filters.push_back(grid_of(filters.back(), k, size.h, size.w));
    expected.push_back(same);
  }
};

Groups groups_of(const Shape& shape, Form form, int i_power, float scale = 1) {
  Groups out;
  for (const Size& size : shape.groups) {
    out.add(size, shape.H, form, i_power % 4, scale);
    i_power += 1;
  }
  return out;
}

PlaneArgs<float> plane_args(const Shape& shape, const std::vector<PlaneGroup<float>>& groups) {
  return {shape.count, shape.H, shape.W, groups, row_blocks(shape.H, shape.H, simd_width())};
}

// Returns the result of `run` with one thread; checks that it is equal with two threads.
template <typename Run>
auto same_with_two_threads(const Run& run, const std::string& label) {
  set_num_threads(1);
  const auto alone = run();
  set_num_threads(2);
  check(run() == alone, label + " with two threads");
  return alone;
}

// --- split_planes and merge_planes

std::vector<Floats> split(const Shape& shape, Groups& filters, const Floats& planes) {
  std::vector<Floats> bands;
  for (PlaneGroup<float>& group : filters.groups) {
    bands.emplace_back(shape.count * group.K * group.h * group.w * group.stride);
    group.bands_out = bands.back().data();
  }
  SplitPlanesArgs<float> args{plane_args(shape, filters.groups), planes.data(), 0};
  run_split(args);
  return bands;
}

void test_split(const Shape& shape, Form form, bool with_reference = true) {
  const std::string label =
      std::string("split_planes ") + shape.name + (form == Form::kReal ? " real" : " complex");
  Groups filters = groups_of(shape, form, 1);
  const Floats planes = random_floats(shape.count * shape.H * shape.W, -1, 1, 9);
  const auto bands = same_with_two_threads([&] { return split(shape, filters, planes); }, label);
  for (int64_t n = 0; with_reference && n < shape.count; ++n) {
    const auto expected = reference::split(grid_of(planes, n, shape.H, shape.W), filters.expected);
    for (size_t i = 0; i < bands.size(); ++i)
      compare(bands[i], n * filters.groups[i].K, expected[i], filters.groups[i].stride,
              kPyramidTolerance, label);
  }
}

// The bands of plane n, in the form that the reference reads.
reference::Bands bands_of(const Floats& bands, const PlaneGroup<float>& group, int64_t n) {
  reference::Bands out;
  for (int64_t k = 0; k < group.num_stored(); ++k)
    out.push_back(grid_of(bands, n * group.num_stored() + k, group.h, group.w, group.stride));
  return group.form == Form::kPairs ? reference::unpaired(out, group.K) : out;
}

Floats merge(const Shape& shape, const Groups& filters, const Floats& residual) {
  Floats planes(shape.count * shape.H * shape.W);
  MergePlanesArgs<float> args{plane_args(shape, filters.groups), residual.data(), 1, planes.data()};
  run_merge(args);
  return planes;
}

void test_merge(const Shape& shape, Form form, bool with_reference = true) {
  const char* const forms[] = {" real", " complex", " pairs"};
  const std::string label =
      std::string("merge_planes ") + shape.name + forms[static_cast<int>(form)];
  Groups filters = groups_of(shape, form, 2);
  std::vector<Floats> bands;
  for (PlaneGroup<float>& group : filters.groups) {
    const int64_t floats = shape.count * group.num_stored() * group.h * group.w * group.stride;
    bands.push_back(random_floats(floats, -1, 1, static_cast<unsigned>(floats)));
    group.bands = bands.back().data();
  }
  const Floats residual = random_floats(shape.H * shape.W, -1, 1, 8);
  const Floats planes =
      same_with_two_threads([&] { return merge(shape, filters, residual); }, label);
  for (int64_t n = 0; with_reference && n < shape.count; ++n) {
    std::vector<reference::Bands> stored;
    for (size_t i = 0; i < bands.size(); ++i)
      stored.push_back(bands_of(bands[i], filters.groups[i], n));
    const reference::Grid expected =
        reference::merge(stored, filters.expected, grid_of(residual, 0, shape.H, shape.W));
    compare(planes, n, {expected}, 1, kPyramidTolerance, label);
  }
}

// --- morph_planes, step_planes, move_planes

constexpr int64_t kFrames = 3;  // the factors of the second frame are 0

struct MorphCase {
  Shape shape;
  Edit edit = Edit::kJoint;
  Rule rule = Rule::kComplex;
  bool complex_bands = false;

  std::string label() const {
    const char* const edits[] = {" phase", " amplitude", " joint"};
    return std::string("morph_planes ") + shape.name + edits[static_cast<int>(edit)] +
           (rule == Rule::kPolar ? " polar" : " complex") +
           (complex_bands ? ", complex bands" : "");
  }
};

// The arguments of the morph, and the memory that they point to. The threshold kFloor is large, so that coefficients near
// 0, where phases jump, do not move. The filters are scaled so that images stay near [0, 1].
struct Morph {
  static constexpr float kFloor = 0.3f, kLow = -0.5f, kHigh = 0.75f;

  Shape shape;
  Groups analysis, gradient, synthesis;
  Floats images, gradients, phase_factors, amplitude_factors;
  MorphArgs<float> args{};

  explicit Morph(const MorphCase& test) : shape(test.shape) {
    const int64_t area = shape.H * shape.W;
    const float scale = 1 / static_cast<float>(area);
    const Form form = test.complex_bands ? Form::kComplex : Form::kReal;
    for (const Size& size : shape.groups) {
      analysis.add(size, shape.H, Form::kComplex, 3, scale);
      gradient.add(size, shape.H, form, 3, 0.03f * scale);
      synthesis.add(size, shape.H, form, 1, 0.03f * scale);
    }
    analysis.add({1, shape.H, shape.W}, shape.H, Form::kReal, 0, scale);
    images = random_floats(shape.count * area, 0, 1, 5);
    gradients = random_floats(shape.count * area, -1.7f, 1.7f, 6);
    phase_factors = random_floats(kFrames * shape.count, 0.2f, 1, 3);
    amplitude_factors = random_floats(kFrames * shape.count, -1, -0.2f, 4);
    for (int64_t n = shape.count; n < 2 * shape.count; ++n)
      phase_factors[n] = amplitude_factors[n] = 0;
    args.analysis = plane_args(shape, analysis.groups);
    args.synthesis = plane_args(shape, synthesis.groups);
    args.gradient = gradient.groups;
    args.edit = test.edit;
    args.rule = test.rule;
    args.eps = 1;
    args.floor = kFloor;
    args.low = kLow;
    args.high = kHigh;
    args.frames = kFrames;
    args.images = images.data();
    args.gradients = gradients.data();
    args.phase_factors = phase_factors.data();
    args.amplitude_factors = amplitude_factors.data();
    args.factor_stride = 1;
  }

  Floats frames() {
    Floats out(kFrames * shape.count * shape.H * shape.W);
    MorphArgs<float> call = args;
    call.out = out.data();
    run_morph(call);
    return out;
  }

  // The frames, computed by step_planes and move_planes.
  Floats frames_of_halves() {
    Floats out(kFrames * shape.count * shape.H * shape.W);
    std::vector<float> speeds(shape.count * args.bands()), phases(speeds.size());
    std::vector<float> memory(shape.count * args.coefficient_vectors(simd_width()) * simd_width() +
                              kMaxSimdWidth);
    const auto misalignment =
        reinterpret_cast<uintptr_t>(memory.data()) / sizeof(float) % kMaxSimdWidth;
    MorphArgs<float> call = args;
    call.out = out.data();
    call.coefficients = memory.data() + (kMaxSimdWidth - misalignment) % kMaxSimdWidth;
    call.speeds = speeds.data();
    call.phases = phases.data();
    run_step(call);
    call = args;
    call.out = out.data();
    call.coefficients = memory.data() + (kMaxSimdWidth - misalignment) % kMaxSimdWidth;
    run_move(call);
    return out;
  }

  reference::Grid expected(int64_t frame, int64_t n) const {
    const reference::Options options = {args.moves_phase(),
                                        args.moves_amplitude(),
                                        args.rule == Rule::kPolar,
                                        1,
                                        kFloor,
                                        kLow,
                                        kHigh};
    const int64_t at = frame * shape.count + n;
    return reference::morph(grid_of(images, n, shape.H, shape.W),
                            grid_of(gradients, n, shape.H, shape.W), analysis.expected,
                            gradient.expected, {phase_factors[at], amplitude_factors[at]}, options);
  }
};

void test_morph(const MorphCase& test, bool with_reference = true) {
  Morph morph(test);
  const std::string label = test.label();
  const Floats frames = same_with_two_threads([&] { return morph.frames(); }, label);
  check(morph.frames_of_halves() == frames, label + " in two calls");
  for (int64_t i = 0; with_reference && i < kFrames * test.shape.count; ++i)
    compare(frames, i, {morph.expected(i / test.shape.count, i % test.shape.count)}, 1,
            kRenderTolerance, label);
}

void test_shape(const Shape& shape, bool with_reference = true) {
  for (const Form form : {Form::kReal, Form::kComplex}) test_split(shape, form, with_reference);
  for (const Form form : {Form::kReal, Form::kComplex, Form::kPairs})
    test_merge(shape, form, with_reference);
  test_morph({shape}, with_reference);
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t expected_width = argc == 2 ? std::atoll(argv[1]) : -1;
  std::printf("SIMD width %d\n", static_cast<int>(simd_width()));
  if (simd_width() != expected_width || simd_width() == 0) {
    std::printf("FAILED: the argument must be this CPU's SIMD width, not 0\n");
    return 1;
  }
  for (const Shape& shape : kShapes) test_shape(shape);
  test_shape(kShared, false);
  for (const Edit edit : {Edit::kPhase, Edit::kAmplitude, Edit::kJoint})
    for (const Rule rule : {Rule::kComplex, Rule::kPolar})
      for (const bool complex_bands : {false, true})
        test_morph({kShapes[1], edit, rule, complex_bands});
  std::printf(failures ? "%d comparisons failed\n" : "all comparisons passed\n", failures);
  return failures > 0;
}
