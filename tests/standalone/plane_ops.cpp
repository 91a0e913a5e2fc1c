// Compares the CPU's kernels of split_planes, merge_planes, morph_planes, step_planes and move_planes with reference.h.
// The program needs neither torch nor Python, so it can be cross compiled and run in an emulator (.ci/standalone).
//
//     plane_ops SIMD_WIDTH     the argument is the width that the kernels must have
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "cpu/kernels/planes.h"
#include "prepare/row_blocks.h"
#include "reference.h"
#include "without_torch.h"

namespace {

using namespace steerlens;
template <typename T>
using Numbers = std::vector<T>;
using Grids = std::vector<reference::Grid>;

// Relative to the largest value; the same as "pyramid" and "render" in tests/tolerances.py.
template <typename T>
constexpr double kPyramidTolerance = sizeof(T) == sizeof(float) ? 3e-6 : 1e-13;
template <typename T>
constexpr double kRenderTolerance = sizeof(T) == sizeof(float) ? 3e-5 : 1e-12;
template <typename T>
const char* type_name() {
  return sizeof(T) == sizeof(float) ? " float" : " double";
}
template <typename T>
int64_t simd_width_of() {
  return simd_width() * static_cast<int64_t>(sizeof(float)) / static_cast<int64_t>(sizeof(T));
}

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
// One plane, so that two threads must share it. It is too large for the slow reference.
const Shape kShared = {"shared", 1, 128, 136, {{3, 128, 136}, {1, 64, 68}}};

int failures = 0;

void check(bool passed, const std::string& label, double error = 0) {
  if (passed) return;
  ++failures;
  std::printf("FAILED %s: error %.2g\n", label.c_str(), error);
}

template <typename T>
Numbers<T> random_numbers(int64_t count, double low, double high, unsigned seed) {
  std::mt19937 engine(seed);
  Numbers<T> out(count);
  for (T& value : out)
    value = static_cast<T>(low + (high - low) * static_cast<double>(engine()) / 4294967296.0);
  return out;
}

// Returns grid `index` of an array of grids, in which each value has `parts` numbers.
template <typename T>
reference::Grid grid_of(const Numbers<T>& from, int64_t index, int64_t h, int64_t w,
                        int parts = 1) {
  reference::Grid grid(h, w);
  const T* at = from.data() + index * h * w * parts;
  for (int64_t i = 0; i < h * w; ++i)
    grid.values[i] = {at[parts * i], parts == 2 ? at[2 * i + 1] : T(0)};
  return grid;
}

// Compares the grids from `first` on, stored as for grid_of, with the expected ones.
template <typename T>
void compare(const Numbers<T>& actual, int64_t first, const Grids& expected, int parts,
             double tolerance, const std::string& label) {
  double largest = 0, error = 0;
  for (size_t k = 0; k < expected.size(); ++k) {
    const reference::Grid& grid = expected[k];
    const reference::Grid found = grid_of(actual, first + k, grid.h, grid.w, parts);
    for (size_t i = 0; i < grid.values.size(); ++i) {
      largest = std::max(largest, std::abs(grid.values[i]));
      const double difference = std::abs(found.values[i] - grid.values[i]);
      error = std::max(error, std::isnan(difference) ? HUGE_VAL : difference);
    }
  }
  check(error <= tolerance * largest, label, error / largest);
}

// Groups of bands with random filters, in the forms that the kernels and the reference read.
template <typename T>
struct Groups {
  std::vector<Numbers<T>> filters;
  std::vector<PlaneGroup<T>> groups;
  std::vector<reference::Group> for_reference;

  void add(const Size& size, int64_t H, Form form, int i_power, double scale) {
    const unsigned seed = static_cast<unsigned>(filters.size());
    filters.push_back(random_numbers<T>(size.K * size.h * size.w, 0.5 * scale, 1.5 * scale, seed));
    PlaneGroup<T> group{};
    group.filter = filters.back().data();
    group.K = size.K;
    group.h = size.h;
    group.w = size.w;
    group.i_power = i_power;
    group.form = form;
    group.stride = form == Form::kReal ? 1 : 2;
    group.row_blocks = row_blocks(size.h, H, simd_width_of<T>());
    groups.push_back(group);
    reference::Group reference_group{{}, i_power, form == Form::kComplex};
    for (int64_t k = 0; k < size.K; ++k)
      reference_group.filters.push_back(grid_of(filters.back(), k, size.h, size.w));
    for_reference.push_back(reference_group);
  }
};

template <typename T>
Groups<T> groups_of(const Shape& shape, Form form, int i_power, double scale = 1) {
  Groups<T> out;
  for (const Size& size : shape.groups) {
    out.add(size, shape.H, form, i_power % 4, scale);
    i_power += 1;
  }
  return out;
}

template <typename T>
PlaneArgs<T> plane_args(const Shape& shape, const std::vector<PlaneGroup<T>>& groups) {
  return {shape.count, shape.H, shape.W, groups, row_blocks(shape.H, shape.H, simd_width_of<T>())};
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

template <typename T>
std::vector<Numbers<T>> split(const Shape& shape, Groups<T>& filters, const Numbers<T>& planes) {
  std::vector<Numbers<T>> bands;
  for (PlaneGroup<T>& group : filters.groups) {
    bands.emplace_back(shape.count * group.K * group.h * group.w * group.stride);
    group.bands_out = bands.back().data();
  }
  SplitPlanesArgs<T> args{plane_args(shape, filters.groups), planes.data(), /*result_bytes=*/0};
  run_split(args);
  return bands;
}

template <typename T>
void test_split(const Shape& shape, Form form, bool with_reference = true) {
  const std::string label = std::string("split_planes ") + shape.name +
                            (form == Form::kReal ? " real" : " complex") + type_name<T>();
  Groups<T> filters = groups_of<T>(shape, form, 1);
  const Numbers<T> planes = random_numbers<T>(shape.count * shape.H * shape.W, -1, 1, 9);
  const auto bands = same_with_two_threads([&] { return split(shape, filters, planes); }, label);
  for (int64_t n = 0; with_reference && n < shape.count; ++n) {
    const auto expected =
        reference::split(grid_of(planes, n, shape.H, shape.W), filters.for_reference);
    for (size_t i = 0; i < bands.size(); ++i)
      compare(bands[i], n * filters.groups[i].K, expected[i], filters.groups[i].stride,
              kPyramidTolerance<T>, label);
  }
}

// The bands of plane n, in the form that the reference reads.
template <typename T>
reference::Bands bands_of(const Numbers<T>& bands, const PlaneGroup<T>& group, int64_t n) {
  reference::Bands out;
  for (int64_t k = 0; k < group.num_stored(); ++k)
    out.push_back(grid_of(bands, n * group.num_stored() + k, group.h, group.w, group.stride));
  return group.form == Form::kPairs ? reference::unpaired(out, group.K) : out;
}

template <typename T>
Numbers<T> merge(const Shape& shape, const Groups<T>& filters, const Numbers<T>& residual) {
  Numbers<T> planes(shape.count * shape.H * shape.W);
  MergePlanesArgs<T> args{plane_args(shape, filters.groups), residual.data(), /*residual_planes=*/1,
                          planes.data()};
  run_merge(args);
  return planes;
}

template <typename T>
void test_merge(const Shape& shape, Form form, bool with_reference = true) {
  const char* const forms[] = {" real", " complex", " pairs"};
  const std::string label =
      std::string("merge_planes ") + shape.name + forms[static_cast<int>(form)] + type_name<T>();
  Groups<T> filters = groups_of<T>(shape, form, 2);
  std::vector<Numbers<T>> bands;
  for (PlaneGroup<T>& group : filters.groups) {
    const int64_t size = shape.count * group.num_stored() * group.h * group.w * group.stride;
    bands.push_back(random_numbers<T>(size, -1, 1, static_cast<unsigned>(size)));
    group.bands = bands.back().data();
  }
  const Numbers<T> residual = random_numbers<T>(shape.H * shape.W, -1, 1, 8);
  const Numbers<T> planes =
      same_with_two_threads([&] { return merge(shape, filters, residual); }, label);
  for (int64_t n = 0; with_reference && n < shape.count; ++n) {
    std::vector<reference::Bands> stored;
    for (size_t i = 0; i < bands.size(); ++i)
      stored.push_back(bands_of(bands[i], filters.groups[i], n));
    const reference::Grid expected =
        reference::merge(stored, filters.for_reference, grid_of(residual, 0, shape.H, shape.W));
    compare(planes, n, {expected}, 1, kPyramidTolerance<T>, label);
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

// The arguments of the morph, and the memory that they point to. kFloor (times a band's largest amplitude) is large, so
// that coefficients near 0, where phases jump, do not move. The filters are scaled so that images stay near [0, 1].
template <typename T>
struct Morph {
  static constexpr T kFloor = T(0.3), kLow = T(-0.5), kHigh = T(0.75);

  Shape shape;
  Groups<T> analysis, gradient, synthesis;
  Numbers<T> images, gradients, phase_factors, amplitude_factors;
  MorphArgs<T> args{};

  explicit Morph(const MorphCase& test) : shape(test.shape) {
    const int64_t area = shape.H * shape.W;
    const double scale = 1 / static_cast<double>(area);
    const Form form = test.complex_bands ? Form::kComplex : Form::kReal;
    for (const Size& size : shape.groups) {
      analysis.add(size, shape.H, Form::kComplex, 3, scale);
      gradient.add(size, shape.H, form, 3, 0.03 * scale);
      synthesis.add(size, shape.H, form, 1, 0.03 * scale);
    }
    analysis.add({1, shape.H, shape.W}, shape.H, Form::kReal, 0, scale);
    images = random_numbers<T>(shape.count * area, 0, 1, 5);
    gradients = random_numbers<T>(shape.count * area, -1.7, 1.7, 6);
    phase_factors = random_numbers<T>(kFrames * shape.count, 0.2, 1, 3);
    amplitude_factors = random_numbers<T>(kFrames * shape.count, -1, -0.2, 4);
    for (int64_t n = shape.count; n < 2 * shape.count; ++n)
      phase_factors[n] = amplitude_factors[n] = 0;
    args.analysis = plane_args(shape, analysis.groups);
    args.synthesis = plane_args(shape, synthesis.groups);
    args.gradient_groups = gradient.groups;
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

  Numbers<T> frames() {
    Numbers<T> out(kFrames * shape.count * shape.H * shape.W);
    MorphArgs<T> call = args;
    call.out = out.data();
    run_morph(call);
    return out;
  }

  // The frames, computed by step_planes and move_planes.
  Numbers<T> frames_in_two_calls() {
    Numbers<T> out(kFrames * shape.count * shape.H * shape.W);
    Numbers<T> squared_speeds(shape.count * args.bands()), phases(squared_speeds.size());
    Numbers<T> memory(shape.count * args.coefficient_vectors(simd_width_of<T>()) *
                          simd_width_of<T>() +
                      kMaxSimdWidth);
    const auto misalignment =
        reinterpret_cast<uintptr_t>(memory.data()) / sizeof(T) % kMaxSimdWidth;
    MorphArgs<T> call = args;
    call.out = out.data();
    call.coefficients = memory.data() + (kMaxSimdWidth - misalignment) % kMaxSimdWidth;
    call.squared_speeds = squared_speeds.data();
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
                                        args.eps,
                                        kFloor,
                                        kLow,
                                        kHigh};
    const int64_t at = frame * shape.count + n;
    return reference::morph(grid_of(images, n, shape.H, shape.W),
                            grid_of(gradients, n, shape.H, shape.W), analysis.for_reference,
                            gradient.for_reference, {phase_factors[at], amplitude_factors[at]},
                            options);
  }
};

template <typename T>
void test_morph(const MorphCase& test, bool with_reference = true) {
  Morph<T> morph(test);
  const std::string label = test.label() + type_name<T>();
  const Numbers<T> frames = same_with_two_threads([&] { return morph.frames(); }, label);
  check(morph.frames_in_two_calls() == frames, label + " in two calls");
  for (int64_t i = 0; with_reference && i < kFrames * test.shape.count; ++i)
    compare(frames, i, {morph.expected(i / test.shape.count, i % test.shape.count)}, 1,
            kRenderTolerance<T>, label);
}

template <typename T>
void test_shape(const Shape& shape, bool with_reference = true) {
  for (const Form form : {Form::kReal, Form::kComplex}) test_split<T>(shape, form, with_reference);
  for (const Form form : {Form::kReal, Form::kComplex, Form::kPairs})
    test_merge<T>(shape, form, with_reference);
  test_morph<T>({shape}, with_reference);
}

template <typename T>
void test_all() {
  for (const Shape& shape : kShapes) test_shape<T>(shape);
  test_shape<T>(kShared, false);
  for (const Edit edit : {Edit::kPhase, Edit::kAmplitude, Edit::kJoint})
    for (const Rule rule : {Rule::kComplex, Rule::kPolar})
      for (const bool complex_bands : {false, true})
        test_morph<T>({kShapes[1], edit, rule, complex_bands});  // odd sides
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t expected_width = argc == 2 ? std::atoll(argv[1]) : -1;
  std::printf("SIMD width %d\n", static_cast<int>(simd_width()));
  if (simd_width() != expected_width || simd_width() == 0) {
    std::printf("FAILED: the width must be the argument, and not 0\n");
    return 1;
  }
  test_all<float>();
  test_all<double>();
  std::printf(failures ? "%d comparisons failed\n" : "all comparisons passed\n", failures);
  return failures > 0;
}
