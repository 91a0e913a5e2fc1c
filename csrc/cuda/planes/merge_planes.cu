// merge_planes on CUDA: FFTs of the bands' columns and rows, filters, the sum over all bands, and inverse FFTs of the
// planes' rows and columns. See cpu/planes/merge_planes.h for what the op computes.
#include "analysis.h"
#include "synthesis.h"

namespace steerlens {
namespace {

// The bands of a unit in the op's argument `bands`, which has one tensor for each group.
struct BandsIn {
  const float* data;  // the first band of the first plane
  int64_t stored;     // bands of a plane in the tensor; the unit may have fewer
  int stride;         // floats from one coefficient to the next
  bool in_pairs;      // the tensor stores two real bands as one complex band
};

// What transform i of a unit reads at point `at`: the coefficient of a complex band, or those of two real bands as real
// and imaginary part. The imaginary part is 0 if there is no second band.
__device__ __forceinline__ Cplx<float> band_point(const Unit& unit, const BandsIn& in,
                                                  int64_t plane, int i, int64_t at) {
  const int64_t area = int64_t{unit.h()} * unit.w();
  const bool separate = unit.content == Content::kPair && !in.in_pairs;  // two real bands
  const int64_t offset = (plane * in.stored + (separate ? 2 * i : i)) * area + at;
  const bool alone = unit.content == Content::kPair && 2 * i + 1 == unit.bands;
  if (!separate) {
    Cplx<float> value = load_one(reinterpret_cast<const Cplx<float>*>(in.data) + offset);
    if (alone) value.im = 0.0f;  // the tensor may have any number there
    return value;
  }
  return {load_one(in.data + offset * in.stride),
          alone ? 0.0f : load_one(in.data + (offset + area) * in.stride)};
}

__global__ void __launch_bounds__(kMaxThreads, 2)
    merge_columns_kernel(const __grid_constant__ Unit unit, const __grid_constant__ BandsIn in) {
  const int h = unit.h(), w = unit.w();
  const ColumnBlock block(unit.transforms, w);
  const int i = block.transform;
  const BlockFft fft(unit.columns);
  for (int j = threadIdx.x; j < h * kLines; j += blockDim.x) {
    const Point p = column_point(j);
    const int x = block.index * kLines + p.line;
    fft.set_input(p.at, p.line,
                  x < w ? band_point(unit, in, block.plane, i, int64_t{p.at} * w + x)
                        : Cplx<float>{0.0f, 0.0f});
  }
  fft.run();
  Cplx<float>* to = unit.transform(block.plane, i) + block.offset(h);
  for (int j = threadIdx.x; j < h * kLines; j += blockDim.x) {
    const Point p = column_point(j);
    store_one(to + j, fft.output(p.at, p.line));
  }
}

struct WritePlane {
  float* data;
  const float* residual;  // [residual planes, H, W], or null
  int64_t first, residual_planes, area;

  struct Plane {
    float* data;
    const float* residual;
    __device__ void operator()(int at, float value) const {
      data[at] = residual ? value + load_one(residual + at) : value;
    }
  };
  __device__ Plane plane(int64_t n) const {
    n += first;
    return {data + n * area, residual ? residual + n % residual_planes * area : nullptr};
  }
};

// The index of a unit's first band among the stored bands of its group.
int64_t first_stored(const PlaneGroup<float>& group, const Unit& unit) {
  const int64_t band = (unit.masks - group.filter) / (group.h * group.w);
  return group.form == Form::kPairs ? band / 2 : band;
}

void run_merge(MergePlanes<float>& p) {
  const PlaneArgs<float>& args = p.args;
  const int H = static_cast<int>(args.H), W = static_cast<int>(args.W);
  const UnitWorkspace work = make_unit_workspace(args, p.planes);
  const Units all = kernel_units(work.units);
  const Launcher launcher(p.planes);
  for_chunks(args.count, work.size, [&](int64_t first, int64_t count) {
    for (size_t i = 0; i < work.units.size(); ++i) {
      const PlaneGroup<float>& group = *work.groups[i];
      const Unit& unit = work.units[i];
      const int64_t area = group.h * group.w, pitch = group.num_stored() * area * group.stride;
      const float* from =
          group.bands + first * pitch + first_stored(group, unit) * area * group.stride;
      if (unit.content == Content::kHalf)
        transform_columns(launcher, {from, pitch, group.stride}, count, unit.h(), unit.w(),
                          unit.data);
      else
        launch_lines(launcher, unit.h(), count * unit.transforms * column_blocks(unit.w()),
                     merge_columns_kernel, unit,
                     BandsIn{from, group.num_stored(), group.stride, group.form == Form::kPairs});
    }
    FrameFactors one_frame{};
    one_frame.frames = 1;
    merge_rows(launcher,
               {work.half_planes, nullptr, static_cast<int>(count), make_fft_plan(W), H, one_frame},
               all);
    const WritePlane write{mutable_data<float>(p.planes),
                           p.residual.has_value() ? const_data<float>(*p.residual) : nullptr, first,
                           p.residual.has_value() ? p.residual->size(0) : 1, args.H * args.W};
    inverse_real_columns(launcher, work.half_planes, count, H, W, write);
  });
}

Tensor merge_planes(std::vector<Tensor> bands, std::vector<Tensor> filters,
                    std::vector<int64_t> i_powers, std::vector<int64_t> forms,
                    std::optional<Tensor> residual, int64_t height, int64_t width) {
  auto p = prepare_merge_planes<float>(kCudaLimits, bands, filters, i_powers, forms, residual,
                                       height, width);
  if (p.planes.numel() > 0) run_merge(p);
  return p.planes;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CUDA, m) {
  m.impl("merge_planes", TORCH_BOX(&merge_planes));
}

}  // namespace steerlens
