// Checks the arguments of pair and unpair, and allocates their results. pair makes one complex plane of two real ones,
// so that one FFT transforms both. If the given planes are complex, only their real parts are used. Planes are paired
// within runs of `run` consecutive planes, such as the orientations of one image; the last plane of an odd run is paired
// with zeros.
#pragma once

#include "../checks.h"
#include "../kernel_args/pair.h"

namespace steerlens {

// The tensors of pair, whose result is `pairs`, and of unpair, whose result is `planes`.
struct PairTensors {
  int64_t run, runs;
  Tensor planes, pairs;

  bool float64() const { return is_double(pairs.scalar_type()); }

  template <typename T>
  PairArgs<T> args() const {
    PairArgs<T> args{};
    args.run = run;
    args.runs = runs;
    args.area = pairs.size(0) > 0 ? pairs.numel() / pairs.size(0) : 0;
    return args;
  }
};

struct Pair : PairTensors {
  int64_t count() const { return pairs.numel(); }

  template <typename T>
  PairArgs<T> args() {
    PairArgs<T> args = PairTensors::args<T>();
    args.complex_planes = is_complex(planes.scalar_type());
    args.planes = planes.const_data_ptr();
    args.pairs_out = mutable_data<Cplx<T>>(pairs);
    return args;
  }
};

struct Unpair : PairTensors {
  int64_t count() const { return planes.numel(); }

  template <typename T>
  PairArgs<T> args() {
    PairArgs<T> args = PairTensors::args<T>();
    args.pairs = const_data<Cplx<T>>(pairs);
    args.planes_out = mutable_data<T>(planes);
    return args;
  }
};

inline void check_run(const char* op, int64_t run) {
  if (run < 0) fail(op, "run must be at least 0, got ", run);
}

// Returns the number of runs in the tensor's first dimension, of `per_run` planes or pairs each.
inline int64_t runs_of(const char* op, const char* name, const Tensor& t, int64_t per_run) {
  if (t.dim() < 1) fail(op, name, " must have shape [N, ...], got a scalar");
  if (per_run == 0 ? t.size(0) != 0 : t.size(0) % per_run != 0)
    fail(op, name, " must have a first dimension that is a multiple of ", per_run, ", got shape ",
         shape_text(shape_of(t)));
  return per_run == 0 ? 1 : t.size(0) / per_run;
}

inline Pair prepare_pair(const Tensor& planes, int64_t run) {
  const char* op = "pair";
  check_run(op, run);
  const bool float64 = check_floating(op, "planes", planes, is_complex(planes.scalar_type()));
  const int64_t runs = runs_of(op, "planes", planes, run);
  Shape shape = shape_of(planes);
  shape[0] = runs * pairs_of(run);
  return {{run, runs, as_contiguous(planes), new_tensor(planes, shape, complex_type(float64))}};
}

inline Unpair prepare_unpair(const Tensor& pairs, int64_t run) {
  const char* op = "unpair";
  check_run(op, run);
  const bool float64 = check_floating(op, "pairs", pairs, true);
  const int64_t runs = runs_of(op, "pairs", pairs, pairs_of(run));
  Shape shape = shape_of(pairs);
  shape[0] = runs * run;
  return {{run, runs, new_tensor(pairs, shape, real_type(float64)), as_contiguous(pairs)}};
}

}  // namespace steerlens
