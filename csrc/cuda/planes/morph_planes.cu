// morph_planes on CUDA. A block of threads that has columns of a band computes their coefficients, step and all frames
// in registers. So between image and frames, only half-transformed bands are in memory: after the inverse FFTs of their
// rows. See cpu/planes/morph_planes.h for what the op computes.
#include "../../args/morph.h"

#include "../../math/extrapolate.h"
#include "../reduce.h"
#include "analysis.h"
#include "synthesis.h"

namespace steerlens {
namespace {

// The largest amplitude in each column block of each band: parts[plane, band, column block].
__global__ void __launch_bounds__(kMaxThreads, 2)
    largest_columns_kernel(const __grid_constant__ Unit unit, float* parts) {
  const int h = unit.h();
  const ColumnBlock block(unit.transforms, unit.w());
  static __shared__ bool stored_rows[kCudaLimits.max_side];
  load_stored_rows(unit, block.transform, stored_rows);
  const BlockFft fft(unit.columns);
  read_inverse_columns(fft, unit.transform(block.plane, block.transform) + block.offset(h),
                       stored_rows, block.columns(unit.w()));
  fft.run();
  float largest = 0.0f;
  for (int i = threadIdx.x; i < h * kLines; i += blockDim.x) {
    const Point p = column_point(i);
    largest = larger(amplitude_of(swap_parts(fft.output(p.at, p.line))), largest);
  }
  largest = largest_of_block(largest);
  if (threadIdx.x == 0) parts[blockIdx.x] = largest;
}

// One group of bands.
struct MorphColumns {
  Unit image, gradient, frames;  // frames: of planes times frames
  const float* parts;            // of largest_columns_kernel
  FrameFactors factors;
  Rule rule;
  float eps, floor;
};

// The threshold of a band's step. All threads of a warp must call this.
__device__ __forceinline__ float band_threshold(const MorphColumns& args, int64_t plane, int band) {
  const int blocks = column_blocks(args.image.w());
  const float* parts = args.parts + (plane * args.image.transforms + band) * blocks;
  float largest = 0.0f;
  for (int i = threadIdx.x % kWarp; i < blocks; i += kWarp)
    largest = larger(load_one(parts + i), largest);
  return step_threshold(args.floor, largest_of_warp(largest));
}

// With 64 registers a thread, half of a multiprocessor's threads can run. If amplitudes move, kItems points need more
// registers. If phases move, too, by the complex rule, even half of them do.
template <typename E>
constexpr bool kManyRegisters = E::kMovesPhase && E::kNeedsAmplitude;
template <typename E>  // points that a thread holds
constexpr int kMorphItems = E::kMovesAmplitude && !kManyRegisters<E> ? kItems / 2 : kItems;

// A column block of one complex band, or of two real ones: coefficients, step, and the forward FFTs of all frames.
template <typename E, bool kComplexBands>
__global__ void __launch_bounds__(max_threads(kMorphItems<E>), E::kMovesAmplitude ? 1 : 2)
    morph_columns_kernel(const __grid_constant__ MorphColumns args) {
  constexpr int kBands = kComplexBands ? 1 : 2, kHeld = kMorphItems<E>;
  const int h = args.image.h(), w = args.image.w();
  const ColumnBlock block(args.frames.transforms, w);
  const int i = block.transform, columns = block.columns(w);
  const int64_t plane = block.plane, offset = block.offset(h);
  const int left = args.image.transforms - kBands * i, bands = left < kBands ? left : kBands;
  static __shared__ bool stored_rows[kBands + 1][kCudaLimits.max_side];
  for (int k = 0; k < bands; ++k) load_stored_rows(args.image, kBands * i + k, stored_rows[k]);
  load_stored_rows(args.gradient, i, stored_rows[kBands]);
  const BlockFft fft(args.image.columns);
  const auto output = [&](int m) -> Cplx<float> {
    const int j = threadIdx.x + m * blockDim.x;
    if (j >= h * kLines) return {0.0f, 0.0f};
    const Point p = column_point(j);
    return swap_parts(fft.output(p.at, p.line));
  };

  Cplx<float> c[kBands][kHeld] = {};
#pragma unroll
  for (int k = 0; k < kBands; ++k) {
    if (k >= bands) break;
    read_inverse_columns(fft, args.image.transform(plane, kBands * i + k) + offset, stored_rows[k],
                         columns);
    fft.run();
#pragma unroll
    for (int m = 0; m < kHeld; ++m) c[k][m] = output(m);
    __syncthreads();
  }
  read_inverse_columns(fft, args.gradient.transform(plane, i) + offset, stored_rows[kBands],
                       columns);
  fft.run();
  Coefficient<float> moving[kBands][kHeld];
#pragma unroll
  for (int k = 0; k < kBands; ++k) {
    const float threshold = k < bands ? band_threshold(args, plane, kBands * i + k) : 0.0f;
#pragma unroll
    for (int m = 0; m < kHeld; ++m) {
      const Cplx<float> g = output(m);
      PolarPair<float> step;
      if constexpr (kComplexBands)
        step = step_above(c[k][m], g, args.eps, args.rule, threshold);
      else
        step = step_above(c[k][m], k == 0 ? g.re : g.im, args.eps, args.rule, threshold);
      moving[k][m] = E::load(c[k][m], step.phase, step.amplitude);
    }
  }

  static __shared__ float phases[kWarp], amplitudes[kWarp];  // of this and the next frames
  Cplx<float>* to = args.frames.transform(plane * args.factors.frames, i) + offset;
  for (int f = 0; f < args.factors.frames; ++f, to += args.frames.plane_size()) {
    const int lane = f % kWarp;
    if (lane == 0) {
      __syncthreads();
      const int64_t frame = f + static_cast<int>(threadIdx.x);
      if (threadIdx.x < kWarp && frame < args.factors.frames) {
        const int64_t at = args.factors.index(plane, frame);
        if (E::kMovesPhase) phases[threadIdx.x] = load_one(args.factors.phase + at);
        if (E::kMovesAmplitude) amplitudes[threadIdx.x] = load_one(args.factors.amplitude + at);
      }
    }
    __syncthreads();
    const float phase = E::kMovesPhase ? phases[lane] : 0.0f;
    const float amplitude = E::kMovesAmplitude ? amplitudes[lane] : 0.0f;
    if (phase == 0.0f && amplitude == 0.0f) continue;  // the frame is the plane itself
#pragma unroll
    for (int m = 0; m < kHeld; ++m) {
      const int j = threadIdx.x + m * blockDim.x;
      if (j >= h * kLines) continue;
      Cplx<float> value;
      if constexpr (kComplexBands)
        value = E::value(moving[0][m], phase, amplitude);
      else
        value = {E::real(moving[0][m], phase, amplitude),
                 E::real(moving[kBands - 1][m], phase, amplitude)};
      const Point p = column_point(j);
      fft.set_input(p.at, p.line, value);
    }
    fft.run();
#pragma unroll 1
    for (int j = threadIdx.x; j < h * kLines; j += blockDim.x) {
      const Point p = column_point(j);
      store_one(to + j, fft.output(p.at, p.line));
    }
  }
}

struct WriteFrame {
  float* data;
  const float* images;
  FrameFactors factors;
  int64_t area;
  float low, high;

  struct Plane {
    float* data;
    const float* still;  // the image, where it is the frame
    float low, high;
    __device__ void operator()(int at, float value) const {
      data[at] = clamped(still ? load_one(still + at) : value, low, high);
    }
  };
  // Of all frames of all planes, those of one plane together; the op's result is [F, N, H, W].
  __device__ Plane plane(int64_t line) const {
    const int64_t plane = line / factors.frames, frame = line % factors.frames;
    const int64_t n = factors.first + plane, at = factors.first_frame + frame;
    const float* still = factors.still(plane, frame) ? images + n * area : nullptr;
    return {data + (at * factors.planes + n) * area, still, low, high};
  }
};

struct LaunchMorphColumns {
  const Launcher& launcher;
  const MorphColumns& args;
  int64_t planes;

  template <typename E>
  void run() const {
    if constexpr (E::kMovesPhase || E::kMovesAmplitude) {
      if (args.frames.content == Content::kComplex)
        launch<E, true>();
      else
        launch<E, false>();
    }
  }
  template <typename E, bool kComplexBands>
  void launch() const {
    launch_lines_of(launcher, kMorphItems<E>, args.image.h(),
                    planes * args.frames.transforms * column_blocks(args.image.w()),
                    morph_columns_kernel<E, kComplexBands>, args);
  }
};

// The units of an op's groups and the memory between its kernels, for a chunk of planes and of their frames: all frames,
// or some of one plane.
struct MorphWorkspace {
  std::vector<Unit> image, gradient, frames;  // image: the bands that move, then the residual
  int64_t chunk_frames;
  int64_t size;  // complex numbers for one plane and a chunk of its frames
  Tensor memory;
  Cplx<float>* half_planes;
  std::vector<float*> parts;  // of each unit
};

std::vector<Unit> units_of(const std::vector<PlaneGroup<float>>& groups,
                           const PlaneArgs<float>& planes, bool halves) {
  std::vector<Unit> units;
  for (const PlaneGroup<float>& group : groups) add_units(group, planes.H, planes.W, halves, units);
  return units;
}

// For largest_columns_kernel, in complex numbers.
int64_t parts_size(const Unit& unit) {
  return pairs_of(int64_t{unit.transforms} * column_blocks(unit.w()));
}

MorphWorkspace make_workspace(const MorphPlanes<float>& p) {
  const MorphArgs<float>& args = p.args;
  const PlaneArgs<float>& planes = args.analysis;
  MorphWorkspace work{};
  work.image = units_of(planes.groups, planes, true);
  work.gradient = units_of(args.gradient, planes, false);
  work.frames = units_of(args.synthesis.groups, planes, false);
  int64_t plane = plane_size(work.image) + plane_size(work.gradient);
  for (const Unit& unit : work.image) plane += parts_size(unit);
  const int64_t half_size = half_plane_size(planes.H, planes.W);
  const int64_t frame = half_size + plane_size(work.frames);
  work.chunk_frames = std::min(args.frames, frames_in_workspace(plane, frame));
  work.size = plane + work.chunk_frames * frame;
  const int64_t chunk = chunk_of(planes.count, work.size), lines = chunk * work.chunk_frames;
  const int64_t flags = stored_rows_size(work.image) + stored_rows_size(work.gradient);
  work.memory = new_workspace(p.frames, chunk * work.size + flags);
  work.half_planes = mutable_data<Cplx<float>>(work.memory);
  Cplx<float>* memory = place_units(work.frames, lines, work.half_planes + lines * half_size);
  memory = place_units(work.gradient, chunk, place_units(work.image, chunk, memory));
  for (const Unit& unit : work.image) {
    work.parts.push_back(reinterpret_cast<float*>(memory));
    memory += chunk * parts_size(unit);
  }
  place_stored_rows(work.image, memory);
  place_stored_rows(work.gradient, memory + stored_rows_size(work.image));
  return work;
}

// morph_planes for `count` planes from the first plane of `factors` on.
class MorphChunk {
 public:
  MorphChunk(const MorphPlanes<float>& p, const MorphWorkspace& work, const Launcher& launcher,
             FrameFactors factors, int64_t count)
      : args_(p.args), work_(work), launcher_(launcher), factors_(factors), count_(count) {}

  void run() {
    analyse(args_.images, work_.image);
    analyse(args_.gradients, work_.gradient);
    for (size_t i = 0; i < work_.gradient.size(); ++i) {
      const Unit& unit = work_.image[i];
      launch_lines(launcher_, unit.h(), count_ * unit.transforms * column_blocks(unit.w()),
                   largest_columns_kernel, unit, work_.parts[i]);
    }
    for (int64_t frame = 0; frame < args_.frames; frame += work_.chunk_frames) {
      factors_.first_frame = frame;
      factors_.frames = static_cast<int>(std::min(work_.chunk_frames, args_.frames - frame));
      write_frames();
    }
  }

 private:
  int H() const { return static_cast<int>(args_.analysis.H); }
  int W() const { return static_cast<int>(args_.analysis.W); }
  int64_t area() const { return int64_t{H()} * W(); }

  void analyse(const float* planes, const std::vector<Unit>& units) const {
    transform_columns(launcher_, {planes + factors_.first * area(), area(), 1}, count_, H(), W(),
                      work_.half_planes);
    split_rows(launcher_, work_.half_planes, count_, H(), W(), kernel_units(units));
  }

  void write_frames() const {
    for (size_t i = 0; i < work_.gradient.size(); ++i) {
      const MorphColumns columns{work_.image[i], work_.gradient[i], work_.frames[i], work_.parts[i],
                                 factors_,       args_.rule,        args_.eps,       args_.floor};
      for_edit(args_.moves_phase(), args_.moves_amplitude(), args_.rule,
               LaunchMorphColumns{launcher_, columns, count_});
    }
    const int lines = static_cast<int>(count_) * factors_.frames;
    merge_rows(
        launcher_,
        {work_.half_planes, work_.image.back().data, lines, make_fft_plan(W()), H(), factors_},
        kernel_units(work_.frames));
    const WriteFrame write{args_.out, args_.images, factors_, area(), args_.low, args_.high};
    inverse_real_columns(launcher_, work_.half_planes, lines, H(), W(), write);
  }

  const MorphArgs<float>& args_;
  const MorphWorkspace& work_;
  const Launcher& launcher_;
  FrameFactors factors_;
  int64_t count_;
};

void run_morph(MorphPlanes<float>& p) {
  const MorphArgs<float>& args = p.args;
  const int64_t planes = args.analysis.count;
  const MorphWorkspace work = make_workspace(p);
  const Launcher launcher(p.frames);
  FrameFactors factors{};
  factors.phase = args.phase_factors;
  factors.amplitude = args.amplitude_factors;
  factors.stride = args.factor_stride ? planes : 0;
  factors.planes = planes;
  factors.moves_phase = args.moves_phase();
  factors.moves_amplitude = args.moves_amplitude();
  for_chunks(planes, work.size, [&](int64_t first, int64_t count) {
    factors.first = first;
    MorphChunk(p, work, launcher, factors, count).run();
  });
}

Tensor morph_planes(Tensor images, Tensor gradients, Tensor phase_factors, Tensor amplitude_factors,
                    std::vector<Tensor> analysis, std::vector<Tensor> synthesis, int64_t i_power,
                    int64_t edit, int64_t rule, bool complex_bands, double eps, double floor,
                    double low, double high) {
  auto p = prepare_morph_planes<float>(
      kCudaLimits, {images, gradients, phase_factors, amplitude_factors, analysis, synthesis},
      {i_power, edit, rule, complex_bands, eps, floor, low, high});
  if (p.frames.numel() > 0) run_morph(p);
  return p.frames;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CUDA, m) {
  m.impl("morph_planes", TORCH_BOX(&morph_planes));
}

}  // namespace steerlens
