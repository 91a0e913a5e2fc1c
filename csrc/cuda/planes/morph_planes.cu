// morph_planes on CUDA. A block of threads that has columns of a band computes their coefficients, step and all frames
// in registers and shared memory. So global memory never holds coefficients, only bands between their row FFTs and their
// column FFTs. See cpu/planes/morph_planes.h for what the op computes.
#include <cooperative_groups.h>

#include "../../prepare/morph.h"

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

// Arguments of morph_columns_kernel, for one group of bands.
struct MorphColumns {
  Unit image, gradient;
  Unit moved;          // the moved bands of all frames: [planes, frames, transforms, ...]
  const float* parts;  // results of largest_columns_kernel
  int blocks;          // blocks of threads for a transform
  int waves;           // sets of columns that a block transforms, one after another
  FrameFactors factors;
  Rule rule;
  float eps, floor;
};

// Points that a thread holds. They fit in 64 registers, so that half of a multiprocessor's threads can run. If
// amplitudes move, each point needs more registers.
template <typename E>
constexpr int kMorphItems = E::kMovesAmplitude ? kItems / 2 : kItems;

// The largest amplitude of a band is needed before its first coefficient moves. Without clusters, largest_columns_kernel
// has found it, and the blocks of a band are independent. With clusters, the band is not read twice: the shared memory of
// a cluster holds all of its coefficients. Each block of a cluster fills a multiprocessor. So, if only phases move, such
// a block takes two column blocks at a time, with twice as many threads.
template <typename E, bool kCluster>
constexpr int kMorphLines = kCluster && !E::kMovesAmplitude ? 2 * kLines : kLines;
template <typename E, bool kCluster>
constexpr int kMorphThreads = kMorphLines<E, kCluster> / kLines * max_threads(kMorphItems<E>);

// The code for older GPUs lacks clusters.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr bool kHasClusters = false;
#else
constexpr bool kHasClusters = true;
#endif

// Shared variables of morph_columns.
struct MorphShared {
  bool stored_rows[3][kCudaLimits.max_side];  // flags of 1 or 2 image bands, then of the gradient
  float thresholds[2];                        // step thresholds of the bands
  float largest[2];                           // amplitudes of the bands in this block
  float phases[kWarp], amplitudes[kWarp];     // factors of this frame and the next ones
};
__device__ __forceinline__ MorphShared& morph_shared() {
  static __shared__ MorphShared variables;
  return variables;
}

// The threshold of a band's step, from the parts of largest_columns_kernel. All threads of a warp must call this.
__device__ __forceinline__ float threshold_of_parts(const MorphColumns& args, int64_t plane,
                                                    int band) {
  const int blocks = column_blocks(args.image.w());
  const float* parts = args.parts + (plane * args.image.transforms + band) * blocks;
  float largest = 0.0f;
  for (int i = threadIdx.x % kWarp; i < blocks; i += kWarp)
    largest = larger(load_one(parts + i), largest);
  return step_threshold(args.floor, largest_of_warp(largest));
}

// Thresholds of the steps of a cluster's bands, from the largest amplitudes of each thread. All threads of the cluster
// must call this.
template <int kBands>
__device__ __forceinline__ void thresholds_of_cluster(const MorphColumns& args,
                                                      const float (&of_thread)[kBands]) {
  float* const of_block = morph_shared().largest;
  const auto cluster = cooperative_groups::this_cluster();
  for (int k = 0; k < kBands; ++k) {
    const float largest = largest_of_block(of_thread[k]);
    if (threadIdx.x == 0) of_block[k] = largest;
  }
  cluster.sync();
  if (threadIdx.x < kWarp) {
    for (int k = 0; k < kBands; ++k) {
      float largest = 0.0f;
      if (threadIdx.x < args.blocks) largest = *cluster.map_shared_rank(of_block + k, threadIdx.x);
      largest = largest_of_warp(largest);
      if (threadIdx.x == 0) morph_shared().thresholds[k] = step_threshold(args.floor, largest);
    }
  }
  cluster.sync();  // after this, a block may end: the others have read its shared memory
}

// Columns of one complex band, or of two real ones: coefficients, step, and the forward FFTs of all frames.
template <typename E, bool kComplexBands, bool kCluster>
__device__ __forceinline__ void morph_columns(const MorphColumns& args) {
  constexpr int kBands = kComplexBands ? 1 : 2, kHeld = kMorphItems<E>;
  constexpr int kBlockLines = kMorphLines<E, kCluster>;
  const int h = args.image.h(), w = args.image.w();
  const int rank = static_cast<int>(blockIdx.x % args.blocks);
  const int i = static_cast<int>(blockIdx.x / args.blocks % args.moved.transforms);
  const int64_t plane = blockIdx.x / args.blocks / args.moved.transforms;
  const int remaining = args.image.transforms - kBands * i;
  const int bands = remaining < kBands ? remaining : kBands;
  MorphShared& shared = morph_shared();
  for (int k = 0; k < bands; ++k)
    load_stored_rows(args.image, kBands * i + k, shared.stored_rows[k]);
  load_stored_rows(args.gradient, i, shared.stored_rows[kBands]);
  const BlockFftOf<kBlockLines> fft(args.image.columns);
  const auto first_column = [&](int wave) { return (wave * args.blocks + rank) * kBlockLines; };
  const auto read_columns = [&](const Unit& unit, int transform, const bool* rows, int wave) {
    const int x = first_column(wave);
    read_inverse_columns(fft, unit.transform(plane, transform) + int64_t{x} * h, rows, w - x);
    fft.run();
  };
  const auto output = [&](int m) -> Cplx<float> {
    const int j = threadIdx.x + m * blockDim.x;
    if (j >= h * kBlockLines) return {0.0f, 0.0f};
    const Point p = column_point<kBlockLines>(j);
    return swap_parts(fft.output(p.at, p.line));
  };
  // The memory in which a cluster keeps a coefficient until the thresholds are known.
  const auto parked = [&](int wave, int k, int m) -> Word& {
    Word* words =
        reinterpret_cast<Word*>(dynamic_shared_memory) + fft_bytes(h, kBlockLines) / sizeof(Word);
    return words[((wave * kBands + k) * kHeld + m) * blockDim.x + threadIdx.x];
  };
  const int waves = kCluster ? args.waves : 1;

  Cplx<float> c[kBands][kHeld] = {};
  float largest[kBands] = {};
#pragma unroll 1
  for (int wave = 0; wave < waves && (!kCluster || first_column(wave) < w); ++wave) {
#pragma unroll
    for (int k = 0; k < kBands; ++k) {
      if (k >= bands) break;
      read_columns(args.image, kBands * i + k, shared.stored_rows[k], wave);
#pragma unroll
      for (int m = 0; m < kHeld; ++m) {
        c[k][m] = output(m);
        if constexpr (kCluster) {
          largest[k] = larger(amplitude_of(c[k][m]), largest[k]);
          parked(wave, k, m) = Word{{c[k][m]}};
        }
      }
      __syncthreads();
    }
  }
  if constexpr (kCluster) thresholds_of_cluster(args, largest);

#pragma unroll 1
  for (int wave = 0; wave < waves && (!kCluster || first_column(wave) < w); ++wave) {
    if (wave > 0) __syncthreads();  // other threads may still read the last frame
    const int x = first_column(wave);
    read_columns(args.gradient, i, shared.stored_rows[kBands], wave);
    Coefficient<float> moving[kBands][kHeld];
#pragma unroll
    for (int k = 0; k < kBands; ++k) {
      float threshold = 0.0f;
      if (k < bands) {
        if constexpr (kCluster)
          threshold = shared.thresholds[k];
        else
          threshold = threshold_of_parts(args, plane, kBands * i + k);
      }
#pragma unroll
      for (int m = 0; m < kHeld; ++m) {
        Cplx<float> value = c[k][m];
        if constexpr (kCluster) value = k < bands ? parked(wave, k, m).v[0] : Cplx<float>{};
        const Cplx<float> g = output(m);
        PolarPair<float> step;
        if constexpr (kComplexBands)
          step = step_above(value, g, args.eps, args.rule, threshold);
        else
          step = step_above(value, k == 0 ? g.re : g.im, args.eps, args.rule, threshold);
        moving[k][m] = E::load(value, step.phase, step.amplitude);
      }
    }

    Cplx<float>* to = args.moved.transform(plane * args.factors.frames, i) + int64_t{x} * h;
    const int stored_lines = column_blocks(w) * kLines - x;
    for (int f = 0; f < args.factors.frames; ++f, to += args.moved.plane_size()) {
      const int lane = f % kWarp;
      if (lane == 0) {
        __syncthreads();
        const int64_t frame = f + static_cast<int>(threadIdx.x);
        if (threadIdx.x < kWarp && frame < args.factors.frames) {
          const int64_t at = args.factors.index(plane, frame);
          if (E::kMovesPhase) shared.phases[threadIdx.x] = load_one(args.factors.phase + at);
          if (E::kMovesAmplitude)
            shared.amplitudes[threadIdx.x] = load_one(args.factors.amplitude + at);
        }
      }
      __syncthreads();
      const float phase = E::kMovesPhase ? shared.phases[lane] : 0.0f;
      const float amplitude = E::kMovesAmplitude ? shared.amplitudes[lane] : 0.0f;
      if (phase == 0.0f && amplitude == 0.0f) continue;  // the frame is the plane itself
      int first = threadIdx.x;
      // Without this, the compiler keeps the places of all points in registers, which do not suffice.
      if constexpr (E::kMovesAmplitude) asm volatile("" : "+r"(first));
#pragma unroll
      for (int m = 0; m < kHeld; ++m) {
        const int j = first + m * blockDim.x;
        if (j >= h * kBlockLines) continue;
        Cplx<float> value;
        if constexpr (kComplexBands)
          value = E::value(moving[0][m], phase, amplitude);
        else
          value = {E::real(moving[0][m], phase, amplitude),
                   E::real(moving[kBands - 1][m], phase, amplitude)};
        const Point p = column_point<kBlockLines>(j);
        fft.set_input(p.at, p.line, value);
      }
      fft.run();
#pragma unroll 1
      for (int j = threadIdx.x; j < h * kBlockLines; j += blockDim.x) {
        const Point p = column_point<kBlockLines>(j);
        if (kBlockLines == kLines || p.line < stored_lines)
          store_one(to + in_column_blocks<kBlockLines>(j, h), fft.output(p.at, p.line));
      }
    }
  }
}

template <typename E, bool kComplexBands, bool kCluster>
__global__ void __launch_bounds__(kMorphThreads<E, kCluster>,
                                  kCluster || E::kMovesAmplitude ? 1 : 2)
    morph_columns_kernel(const __grid_constant__ MorphColumns args) {
  if constexpr (!kCluster || kHasClusters) morph_columns<E, kComplexBands, kCluster>(args);
}

struct WriteFrame {
  float* data;
  const float* images;
  FrameFactors factors;
  int64_t area;
  float low, high;

  struct Plane {
    float* data;
    const float* still;  // the image if the frame equals it, else null
    float low, high;
    __device__ void operator()(int at, float value) const {
      data[at] = clamped(still ? load_one(still + at) : value, low, high);
    }
  };
  // `number` is an index of [planes, frames]. The op's result is [F, N, H, W].
  __device__ Plane plane(int64_t number) const {
    const int64_t plane = number / factors.frames, frame = number % factors.frames;
    const int64_t n = factors.first + plane, at = factors.first_frame + frame;
    const float* still = factors.still(plane, frame) ? images + n * area : nullptr;
    return {data + (at * factors.planes + n) * area, still, low, high};
  }
};

struct LaunchMorphColumns {
  const Launcher& launcher;
  const MorphColumns& args;
  float* parts;
  int64_t planes;

  template <typename E>
  void run() const {
    if constexpr (E::kMovesPhase || E::kMovesAmplitude) {
      if (args.moved.content == Content::kComplex)
        launch<E, true>();
      else
        launch<E, false>();
    }
  }
  template <typename E, bool kComplexBands>
  void launch() const {
    if (launch_clusters<E, kComplexBands>()) return;
    const Unit& image = args.image;
    const int64_t transforms = planes * args.moved.transforms;
    const int blocks = column_blocks(image.w());
    if (args.factors.first_frame == 0)  // otherwise the parts are known
      launch_lines(launcher, image.h(), planes * image.transforms * blocks, largest_columns_kernel,
                   image, parts);
    MorphColumns columns = args;
    columns.blocks = blocks;
    columns.waves = 1;
    launch_lines_of(launcher, kMorphItems<E>, image.h(), transforms * blocks,
                    morph_columns_kernel<E, kComplexBands, false>, columns);
  }

  // Returns false if clusters cannot be used, or if blocks have several waves and the clusters do not fill the device.
  template <typename E, bool kComplexBands>
  bool launch_clusters() const {
    constexpr int kBlockLines = kMorphLines<E, true>, kHeld = kMorphItems<E>;
    const int h = args.image.h();
    const int line_blocks = static_cast<int>(blocks_of(args.image.w(), kBlockLines));
    MorphColumns columns = args;
    columns.waves = static_cast<int>(blocks_of(line_blocks, kMaxClusterBlocks));
    columns.blocks = static_cast<int>(blocks_of(line_blocks, columns.waves));
    const int threads = threads_of(h, kHeld, kBlockLines);
    const size_t parked = columns.waves * (kComplexBands ? 1 : 2) * kHeld * threads * sizeof(Word);
    const int64_t clusters = planes * args.moved.transforms;
    return launcher.run_clusters(clusters, columns.blocks, columns.waves > 1 ? clusters : INT64_MAX,
                                 fft_bytes(h, kBlockLines) + parked,
                                 morph_columns_kernel<E, kComplexBands, true>, threads, columns);
  }
};

// The units of an op's groups and the memory between its kernels, for a chunk: all frames of some planes, or some frames
// of one plane.
struct MorphWorkspace {
  std::vector<Unit> image;  // the bands that move, then the residual
  std::vector<Unit> gradient, moved;
  int64_t chunk_frames;
  int64_t size;  // complex numbers for one plane and a chunk of its frames
  Tensor memory;
  Cplx<float>* half_planes;
  std::vector<float*> parts;  // MorphColumns::parts of each unit
};

std::vector<Unit> units_of(const std::vector<PlaneGroup<float>>& groups,
                           const PlaneArgs<float>& planes, bool halves) {
  std::vector<Unit> units;
  for (const PlaneGroup<float>& group : groups) add_units(group, planes.H, planes.W, halves, units);
  return units;
}

// The memory for `parts` of largest_columns_kernel, in complex numbers.
int64_t parts_size(const Unit& unit) {
  return pairs_of(int64_t{unit.transforms} * column_blocks(unit.w()));
}

MorphWorkspace make_workspace(const MorphPlanes<float>& p) {
  const MorphArgs<float>& args = p.args;
  const PlaneArgs<float>& planes = args.analysis;
  MorphWorkspace work{};
  work.image = units_of(planes.groups, planes, true);
  work.gradient = units_of(args.gradient_groups, planes, false);
  work.moved = units_of(args.synthesis.groups, planes, false);
  int64_t per_plane = plane_size(work.image) + plane_size(work.gradient);
  for (const Unit& unit : work.image) per_plane += parts_size(unit);
  const int64_t half_size = half_plane_size(planes.H, planes.W);
  const int64_t per_frame = half_size + plane_size(work.moved);
  work.chunk_frames = std::min(args.frames, frames_in_workspace(per_plane, per_frame));
  work.size = per_plane + work.chunk_frames * per_frame;
  const int64_t chunk = chunk_of(planes.count, work.size), frames = chunk * work.chunk_frames;
  const int64_t flags = stored_rows_size(work.image) + stored_rows_size(work.gradient);
  work.memory = new_workspace(p.frames, chunk * work.size + flags);
  work.half_planes = mutable_data<Cplx<float>>(work.memory);
  Cplx<float>* memory = place_units(work.moved, frames, work.half_planes + frames * half_size);
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
      const MorphColumns columns{
          work_.image[i], work_.gradient[i], work_.moved[i], work_.parts[i], 0, 0,
          factors_,       args_.rule,        args_.eps,      args_.floor};
      for_edit(args_.moves_phase(), args_.moves_amplitude(), args_.rule,
               LaunchMorphColumns{launcher_, columns, work_.parts[i], count_});
    }
    const int frames = static_cast<int>(count_) * factors_.frames;
    merge_rows(
        launcher_,
        {work_.half_planes, work_.image.back().data, frames, make_fft_plan(W()), H(), factors_},
        kernel_units(work_.moved));
    const WriteFrame write{args_.out, args_.images, factors_, area(), args_.low, args_.high};
    inverse_real_columns(launcher_, work_.half_planes, frames, H(), W(), write);
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
  factors.per_plane = args.factor_stride != 0;
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
  auto p = prepare_morph_planes<float>(kCudaLimits, {images, gradients, analysis, synthesis},
                                       {phase_factors, amplitude_factors},
                                       {i_power, edit, rule, complex_bands, eps, floor, low, high});
  if (p.frames.numel() > 0) run_morph(p);
  return p.frames;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CUDA, m) {
  m.impl("morph_planes", TORCH_BOX(&morph_planes));
}

}  // namespace steerlens
