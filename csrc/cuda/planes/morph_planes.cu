// morph_planes on CUDA. Between image and frames, only the half-transformed bands of image and gradient are in memory:
// a block that has a band's columns computes their coefficients, step and all frames in registers.
// See cpu/planes/morph_planes.h for what the op computes.
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
  const BlockFft fft(unit.columns);
  read_inverse_columns(fft, unit.transform(block.plane, block.transform) + block.offset(h),
                       block.columns(unit.w()));
  fft.run();
  float largest = 0.0f;
  for (int i = threadIdx.x; i < h * kLines; i += blockDim.x) {
    const Sample s = column_sample(i);
    largest = larger_amplitude(amplitude_of(swap_parts(fft.output(s.at, s.line))), largest);
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
    largest = larger_amplitude(load_one(parts + i), largest);
  return step_threshold(args.floor, largest_of_warp(largest));
}

// A column block of one complex band, or of two real ones: coefficients, step, and the forward FFTs of all frames.
template <typename E, bool kComplexBands>
__global__ void __launch_bounds__(kMaxThreads, 1)
    morph_columns_kernel(const __grid_constant__ MorphColumns args) {
  constexpr int kBands = kComplexBands ? 1 : 2;
  const int h = args.image.h(), w = args.image.w();
  const ColumnBlock block(args.frames.transforms, w);
  const int i = block.transform, columns = block.columns(w);
  const int64_t plane = block.plane, offset = block.offset(h);
  const int left = args.image.transforms - kBands * i, bands = left < kBands ? left : kBands;
  const BlockFft fft(args.image.columns);
  const auto output = [&](int m) -> Cplx<float> {
    const int j = threadIdx.x + m * blockDim.x;
    if (j >= h * kLines) return {0.0f, 0.0f};
    const Sample s = column_sample(j);
    return swap_parts(fft.output(s.at, s.line));
  };

  Cplx<float> c[kBands][kItems] = {};
#pragma unroll
  for (int k = 0; k < kBands; ++k) {
    if (k >= bands) break;
    read_inverse_columns(fft, args.image.transform(plane, kBands * i + k) + offset, columns);
    fft.run();
#pragma unroll
    for (int m = 0; m < kItems; ++m) c[k][m] = output(m);
    __syncthreads();
  }
  read_inverse_columns(fft, args.gradient.transform(plane, i) + offset, columns);
  fft.run();
  Coefficient<float> moving[kBands][kItems];
#pragma unroll
  for (int k = 0; k < kBands; ++k) {
    const float threshold = k < bands ? band_threshold(args, plane, kBands * i + k) : 0.0f;
#pragma unroll
    for (int m = 0; m < kItems; ++m) {
      const Cplx<float> g = output(m);
      PolarPair<float> step;
      if constexpr (kComplexBands)
        step = step_above(c[k][m], g, args.eps, args.rule, threshold);
      else
        step = step_above(c[k][m], k == 0 ? g.re : g.im, args.eps, args.rule, threshold);
      moving[k][m] = E::load(c[k][m], step.phase, step.amplitude);
    }
  }

  for (int64_t f = 0; f < args.factors.frames; ++f) {
    if (args.factors.still(plane, f)) continue;
    const int64_t at = args.factors.index(plane, f);
    const float phase = load_one(args.factors.phase + at);
    const float amplitude = load_one(args.factors.amplitude + at);
    __syncthreads();
#pragma unroll
    for (int m = 0; m < kItems; ++m) {
      const int j = threadIdx.x + m * blockDim.x;
      if (j >= h * kLines) continue;
      Cplx<float> value;
      if constexpr (kComplexBands)
        value = E::value(moving[0][m], phase, amplitude);
      else
        value = {E::real(moving[0][m], phase, amplitude),
                 bands == 2 ? E::real(moving[kBands - 1][m], phase, amplitude) : 0.0f};
      const Sample s = column_sample(j);
      fft.set_input(s.at, s.line, value);
    }
    fft.run();
    Cplx<float>* to = args.frames.transform(plane * args.factors.frames + f, i) + offset;
    for (int j = threadIdx.x; j < h * kLines; j += blockDim.x) {
      const Sample s = column_sample(j);
      store_one(to + j, fft.output(s.at, s.line));
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
    const int64_t n = factors.first + plane;
    const float* still = factors.still(plane, frame) ? images + n * area : nullptr;
    return {data + (frame * factors.planes + n) * area, still, low, high};
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
        launch(morph_columns_kernel<E, true>);
      else
        launch(morph_columns_kernel<E, false>);
    }
  }
  void launch(void (*kernel)(MorphColumns)) const {
    launch_lines(launcher, args.image.h(),
                 planes * args.frames.transforms * column_blocks(args.image.w()), kernel, args);
  }
};

// The units of an op's groups and the memory between its kernels, for one chunk of planes.
struct MorphWorkspace {
  std::vector<Unit> image, gradient, frames;  // image: the bands that move, then the residual
  int64_t size;                               // complex numbers for one plane
  Tensor memory;
  Cplx<float>* half_planes;
  float* parts;
};

std::vector<Unit> units_of(const std::vector<PlaneGroup<float>>& groups,
                           const PlaneArgs<float>& planes, bool halves) {
  std::vector<Unit> units;
  for (const PlaneGroup<float>& group : groups) add_units(group, planes.H, planes.W, halves, units);
  return units;
}

MorphWorkspace make_workspace(const MorphPlanes<float>& p) {
  const MorphArgs<float>& args = p.args;
  const PlaneArgs<float>& planes = args.analysis;
  const int64_t frames = args.frames;
  std::vector<Unit> image = units_of(planes.groups, planes, true);
  std::vector<Unit> gradient = units_of(args.gradient, planes, false);
  std::vector<Unit> merged = units_of(args.synthesis.groups, planes, false);
  const int64_t half_size = frames * half_plane_size(planes.H, planes.W);
  int64_t parts_size = 0;
  for (const Unit& unit : image)
    parts_size = std::max<int64_t>(parts_size, unit.transforms * column_blocks(unit.w()));
  const int64_t size = half_size + pairs_of(parts_size) + plane_size(image) + plane_size(gradient) +
                       frames * plane_size(merged);
  const int64_t chunk = chunk_of(planes.count, size);
  Tensor memory = new_workspace(p.frames, chunk * size);
  auto* half_planes = mutable_data<Cplx<float>>(memory);
  Cplx<float>* parts = half_planes + chunk * half_size;
  Cplx<float>* after_image = place_units(image, chunk, parts + chunk * pairs_of(parts_size));
  place_units(merged, chunk * frames, place_units(gradient, chunk, after_image));
  return {image, gradient, merged, size, memory, half_planes, reinterpret_cast<float*>(parts)};
}

void run_morph(MorphPlanes<float>& p) {
  const MorphArgs<float>& args = p.args;
  const PlaneArgs<float>& planes = args.analysis;
  const int H = static_cast<int>(planes.H), W = static_cast<int>(planes.W);
  const int64_t area = planes.H * planes.W;
  const MorphWorkspace work = make_workspace(p);
  const Units image = kernel_units(work.image), gradient = kernel_units(work.gradient),
              frames = kernel_units(work.frames);
  const Launcher launcher(p.frames);
  FrameFactors factors{args.phase_factors,
                       args.amplitude_factors,
                       args.factor_stride ? planes.count : 0,
                       planes.count,
                       0,
                       args.frames,
                       args.moves_phase(),
                       args.moves_amplitude()};
  for_chunks(planes.count, work.size, [&](int64_t first, int64_t count) {
    factors.first = first;
    const auto analyse = [&](const float* from, const Units& units) {
      transform_columns(launcher, {from + first * area, area, 1}, count, H, W, work.half_planes);
      split_rows(launcher, work.half_planes, count, H, W, units);
    };
    analyse(args.images, image);
    analyse(args.gradients, gradient);
    for (size_t i = 0; i < work.gradient.size(); ++i) {
      const Unit& unit = work.image[i];
      launch_lines(launcher, unit.h(), count * unit.transforms * column_blocks(unit.w()),
                   largest_columns_kernel, unit, work.parts);
      const MorphColumns columns{unit,    work.gradient[i], work.frames[i], work.parts,
                                 factors, args.rule,        args.eps,       args.floor};
      for_edit(args.moves_phase(), args.moves_amplitude(), args.rule,
               LaunchMorphColumns{launcher, columns, count});
    }
    const int64_t lines = count * args.frames;
    merge_rows(launcher,
               {work.half_planes, work.image.back().data, lines, make_fft_plan(W), H, factors},
               frames);
    const WriteFrame write{args.out, args.images, factors, area, args.low, args.high};
    inverse_real_columns(launcher, work.half_planes, lines, H, W, write);
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
