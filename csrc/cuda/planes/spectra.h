// What the kernels of the ops on whole planes share: their launches, and the layout of the data between them.
//
// Between column and row FFTs, a plane [rows, w] is stored by column blocks of kLines columns, [column blocks, rows,
// kLines]. So a block of threads that transforms columns accesses consecutive memory, and one that transforms rows
// accesses 64 bytes at a time.
//
// After the FFT of its columns, a real plane is stored as its *half rows*, 0 to h/2. Other rows are their conjugates.
#pragma once

#include "block_fft.h"

namespace steerlens {
namespace {

constexpr int column_blocks(int w) { return (w + kLines - 1) / kLines; }
constexpr int half_rows(int h) { return h / 2 + 1; }

// What one complex FFT transforms: a complex band; two real bands, or one and zeros, as the real and imaginary part; or
// one real band, stored by its half rows.
enum class Content : int { kComplex, kPair, kHalf };

// The bands of one group that have the same content.
struct Unit {
  const float* masks;     // [bands, h, w]
  Cplx<float>* data;      // [planes, transforms, column blocks, rows, kLines]
  FftPlan columns, rows;  // FFTs of lengths h and w
  int bands, transforms, data_rows;
  int i_power;
  Content content;
  bool* stored_rows;  // [transforms, h], written by split_rows_kernel; see there

  __host__ __device__ int h() const { return columns.size; }
  __host__ __device__ int w() const { return rows.size; }
  __host__ __device__ int transform_size() const { return column_blocks(w()) * data_rows * kLines; }
  __host__ __device__ int64_t plane_size() const { return int64_t{transforms} * transform_size(); }
  // The data of one transform of a plane.
  __device__ Cplx<float>* transform(int64_t plane, int i) const {
    return data + (plane * transforms + i) * transform_size();
  }
};

// The index of point x of row y in a plane of column blocks.
__device__ __forceinline__ int in_blocks(int x, int y, int rows) {
  return (x / kLines * rows + y) * kLines + x % kLines;
}

// The column block of a transform that a block of threads takes, in a grid over all planes and transforms.
struct ColumnBlock {
  int64_t plane;
  int transform, index;

  __device__ ColumnBlock(int transforms, int w) {
    const int blocks = column_blocks(w);
    index = static_cast<int>(blockIdx.x % blocks);
    transform = static_cast<int>(blockIdx.x / blocks % transforms);
    plane = blockIdx.x / blocks / transforms;
  }
  // The index at which the block begins in a transform of h rows.
  __device__ int64_t offset(int h) const { return int64_t{index} * h * kLines; }
  // How many columns of the transform are in this block and after it.
  __device__ int columns(int w) const { return w - index * kLines; }
};

// A group has at most two units. kCudaLimits keeps Units within the 4 KiB that kernel parameters may have.
constexpr int kMaxUnits = 2 * kCudaLimits.max_groups;
struct Units {
  Unit of[kMaxUnits];
  int count;
};

// Whether a band contains the opposite of each of its frequencies. A side h that is even and shorter than the image's
// has frequency h/2, but not -h/2.
inline bool has_all_opposites(const PlaneGroup<float>& group, int64_t H, int64_t W) {
  return (group.h == H || group.h % 2 == 1) && (group.w == W || group.w % 2 == 1);
}

// The units of a group. `halves`: a real band without a partner is stored by half rows where it can be.
inline void add_units(const PlaneGroup<float>& group, int64_t H, int64_t W, bool halves,
                      std::vector<Unit>& units) {
  Unit unit{};
  unit.masks = group.filter;
  unit.columns = make_fft_plan(static_cast<int>(group.h));
  unit.rows = make_fft_plan(static_cast<int>(group.w));
  unit.i_power = group.i_power;
  const int K = static_cast<int>(group.K);
  const auto add = [&](Content content, int first, int bands) {
    if (bands == 0) return;
    Unit part = unit;
    part.masks += first * group.h * group.w;
    part.content = content;
    part.bands = bands;
    part.transforms = content == Content::kPair ? static_cast<int>(pairs_of(bands)) : bands;
    part.data_rows = content == Content::kHalf ? half_rows(part.h()) : part.h();
    units.push_back(part);
  };
  if (group.form == Form::kComplex) return add(Content::kComplex, 0, K);
  const bool half = halves && K % 2 == 1 && has_all_opposites(group, H, W);
  add(Content::kPair, 0, half ? K - 1 : K);
  if (half) add(Content::kHalf, K - 1, 1);
}

inline int64_t plane_size(const std::vector<Unit>& units) {
  int64_t size = 0;
  for (const Unit& unit : units) size += unit.plane_size();
  return size;
}

// Gives each unit its part of the memory for `planes` planes; returns the memory after the last part.
inline Cplx<float>* place_units(std::vector<Unit>& units, int64_t planes, Cplx<float>* memory) {
  for (Unit& unit : units) {
    unit.data = memory;
    memory += planes * unit.plane_size();
  }
  return memory;
}

inline Units kernel_units(const std::vector<Unit>& units) {
  Units out{};
  out.count = static_cast<int>(units.size());
  std::copy(units.begin(), units.end(), out.of);
  return out;
}

inline int64_t half_plane_size(int64_t H, int64_t W) {
  return int64_t{column_blocks(static_cast<int>(W))} * half_rows(static_cast<int>(H)) * kLines;
}

// Memory between the kernels, in complex numbers (256 MiB). The planes of an op are computed in chunks that need at
// most this, or one by one. Larger chunks fill a GPU better, smaller ones stay in its L2 cache: the best size is not
// measured yet.
constexpr int64_t kWorkspaceSize = (int64_t{256} << 20) / int64_t{sizeof(Cplx<float>)};

// How many planes or frames of `size` complex numbers the memory holds: at least one and, from kLines on, a multiple of
// kLines.
inline int64_t planes_in(int64_t memory, int64_t size) {
  const int64_t planes = std::max<int64_t>(1, memory / size);
  return planes < kLines ? planes : planes / kLines * kLines;
}

// How many frames of one plane the memory holds. `plane`, `frame`: complex numbers of memory for the plane
// itself, and for one frame.
inline int64_t frames_in_workspace(int64_t plane, int64_t frame) {
  return planes_in(kWorkspaceSize - plane, frame);
}

// The largest number of planes of a chunk; `size`: complex numbers of memory for one plane.
inline int64_t chunk_of(int64_t planes, int64_t size) {
  return std::min(planes_in(kWorkspaceSize, size), planes);
}

// Calls body(first, count) for chunks of planes.
template <typename Body>
void for_chunks(int64_t planes, int64_t size, const Body& body) {
  const int64_t chunk = chunk_of(planes, size);
  for (int64_t first = 0; first < planes; first += chunk)
    body(first, std::min(chunk, planes - first));
}

// Memory for the stored_rows of units, in complex numbers.
inline int64_t stored_rows_size(const std::vector<Unit>& units) {
  int64_t rows = 0;
  for (const Unit& unit : units) rows += int64_t{unit.transforms} * unit.h();
  return blocks_of(rows, sizeof(Cplx<float>));
}

// Gives each unit its part of that memory.
inline void place_stored_rows(std::vector<Unit>& units, Cplx<float>* memory) {
  bool* rows = reinterpret_cast<bool*>(memory);
  for (Unit& unit : units) {
    unit.stored_rows = rows;
    rows += int64_t{unit.transforms} * unit.h();
  }
}

// Memory for `size` complex numbers.
inline Tensor new_workspace(const Tensor& like, int64_t size) {
  return new_tensor(like, {size}, ScalarType::ComplexFloat);
}

// The units of split_planes or merge_planes and the memory between its kernels, for one chunk of planes.
struct UnitWorkspace {
  std::vector<Unit> units;
  std::vector<const PlaneGroup<float>*> groups;  // the group of each unit
  int64_t size;                                  // complex numbers for one plane
  Tensor memory;
  Cplx<float>* half_planes;
};

inline UnitWorkspace make_unit_workspace(const PlaneArgs<float>& args, const Tensor& like) {
  UnitWorkspace work{};
  for (const PlaneGroup<float>& group : args.groups) {
    add_units(group, args.H, args.W, true, work.units);
    work.groups.resize(work.units.size(), &group);
  }
  const int64_t half_size = half_plane_size(args.H, args.W);
  work.size = plane_size(work.units) + half_size;
  const int64_t chunk = chunk_of(args.count, work.size);
  work.memory = new_workspace(like, chunk * work.size + stored_rows_size(work.units));
  work.half_planes = mutable_data<Cplx<float>>(work.memory);
  place_stored_rows(work.units,
                    place_units(work.units, chunk, work.half_planes + chunk * half_size));
  return work;
}

// Launches a kernel whose blocks transform lines of at most `size` points. A thread holds `items` points.
template <typename... Params, typename... Args>
void launch_lines_of(const Launcher& launcher, int items, int size, int64_t blocks,
                     void (*kernel)(Params...), const Args&... args) {
  if (blocks == 0) return;
  launcher.run_with_shared(fft_bytes(size), kernel, dim3(static_cast<unsigned>(blocks)),
                           threads_of(size, items), args...);
}

template <typename... Params, typename... Args>
void launch_lines(const Launcher& launcher, int size, int64_t blocks, void (*kernel)(Params...),
                  const Args&... args) {
  launch_lines_of(launcher, kItems, size, blocks, kernel, args...);
}

}  // namespace
}  // namespace steerlens
