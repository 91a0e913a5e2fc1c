// split_planes on CUDA: FFTs of the planes' columns and rows, filters, and inverse FFTs of the bands' rows and columns.
// See cpu/planes/split_planes.h for what the op computes.
#include "analysis.h"

namespace steerlens {
namespace {

// The bands of a unit in the op's result, which has one tensor for each group.
struct BandsOut {
  float* data;             // the unit's first band
  int64_t bands_of_plane;  // the number in the tensor, not in the unit
};

__global__ void __launch_bounds__(kMaxThreads, 2)
    split_columns_kernel(const __grid_constant__ Unit unit, BandsOut out) {
  const int h = unit.h(), w = unit.w();
  const ColumnBlock block(unit.transforms, w);
  const int i = block.transform, columns = block.columns(w);
  const int64_t area = int64_t{h} * w;
  static __shared__ bool stored_rows[kCudaLimits.max_side];
  load_stored_rows(unit, i, stored_rows);
  const BlockFft fft(unit.columns);
  read_inverse_columns(fft, unit.transform(block.plane, i) + block.offset(h), stored_rows, columns);
  fft.run();
  const bool paired = unit.content == Content::kPair;
  const int64_t band = block.plane * out.bands_of_plane + (paired ? 2 * i : i);
  for (int j = threadIdx.x; j < h * kLines; j += blockDim.x) {
    const Point p = column_point(j);
    if (p.line >= columns) continue;
    const Cplx<float> value = swap_parts(fft.output(p.at, p.line));
    const int64_t at = band * area + int64_t{p.at} * w + block.index * kLines + p.line;
    if (!paired) {
      store_one(reinterpret_cast<Cplx<float>*>(out.data) + at, value);
      continue;
    }
    out.data[at] = value.re;
    if (2 * i + 1 < unit.bands) out.data[at + area] = value.im;
  }
}

struct WriteBand {
  float* data;
  int64_t pitch;  // from a plane's band to the next plane's

  struct Plane {
    float* data;
    __device__ void operator()(int at, float value) const { data[at] = value; }
  };
  __device__ Plane plane(int64_t n) const { return {data + n * pitch}; }
};

// The bands of a group's unit in the result, from plane `first` on.
BandsOut bands_out(const PlaneGroup<float>& group, const Unit& unit, int64_t first) {
  const int64_t area = group.h * group.w, band = (unit.masks - group.filter) / area;
  return {group.bands_out + (first * group.K + band) * area * group.stride, group.K};
}

void run_split(SplitPlanes<float>& p) {
  const PlaneArgs<float>& args = p.args;
  const int H = static_cast<int>(args.H), W = static_cast<int>(args.W);
  const UnitWorkspace work = make_unit_workspace(args, p.planes);
  const Units all = kernel_units(work.units);
  const Launcher launcher(p.planes);
  for_chunks(args.count, work.size, [&](int64_t first, int64_t count) {
    const RealPlanes planes{const_data<float>(p.planes) + first * H * W, int64_t{H} * W, 1};
    transform_columns(launcher, planes, count, H, W, work.half_planes);
    split_rows(launcher, work.half_planes, count, H, W, all);
    for (size_t i = 0; i < work.units.size(); ++i) {
      const Unit& unit = work.units[i];
      const BandsOut out = bands_out(*work.groups[i], unit, first);
      if (unit.content == Content::kHalf)
        inverse_real_columns(launcher, unit.data, count, unit.h(), unit.w(),
                             WriteBand{out.data, out.bands_of_plane * unit.h() * unit.w()});
      else
        launch_lines(launcher, unit.h(), count * unit.transforms * column_blocks(unit.w()),
                     split_columns_kernel, unit, out);
    }
  });
}

std::vector<Tensor> split_planes(Tensor planes, std::vector<Tensor> filters,
                                 std::vector<int64_t> i_powers, std::vector<int64_t> forms) {
  auto p = prepare_split_planes<float>(kCudaLimits, planes, filters, i_powers, forms);
  if (p.result_bytes() > 0) run_split(p);
  return p.bands;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CUDA, m) {
  m.impl("split_planes", TORCH_BOX(&split_planes));
}

}  // namespace steerlens
