// Functions that check the arguments of ops and call kernels, for CPU and CUDA. Error messages name the argument, what
// was expected and what was given.
#pragma once

#include <torch/csrc/stable/library.h>

#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "allocation.h"
#include "math/common.h"

namespace steerlens {

template <typename... Args>
[[noreturn]] void fail(const char* op, const Args&... args) {
  std::ostringstream out;
  out << "steerlens_fast::" << op << ": ";
  (out << ... << args);
  throw std::runtime_error(out.str());
}

// The name of an argument, or of its item `index`, in error messages.
struct ArgName {
  const char* name;
  int64_t index = -1;

  ArgName(const char* name) : name(name) {}
  ArgName(const char* name, size_t index) : name(name), index(static_cast<int64_t>(index)) {}
};

inline std::ostream& operator<<(std::ostream& out, const ArgName& arg) {
  out << arg.name;
  if (arg.index >= 0) out << "[" << arg.index << "]";
  return out;
}

inline Shape shape_of(const Tensor& t) {
  const auto sizes = t.sizes();
  return Shape(sizes.begin(), sizes.end());
}

inline bool is_double(ScalarType type) {
  return type == ScalarType::Double || type == ScalarType::ComplexDouble;
}

inline bool is_complex(ScalarType type) {
  return type == ScalarType::ComplexFloat || type == ScalarType::ComplexDouble;
}

inline ScalarType real_type(bool float64) {
  return float64 ? ScalarType::Double : ScalarType::Float;
}

inline ScalarType complex_type(bool float64) {
  return float64 ? ScalarType::ComplexDouble : ScalarType::ComplexFloat;
}

template <typename T>
constexpr bool kFloat64 = std::is_same_v<T, double>;
template <typename T>
constexpr ScalarType kRealType = kFloat64<T> ? ScalarType::Double : ScalarType::Float;
template <typename T>
constexpr ScalarType kComplexType =
    kFloat64<T> ? ScalarType::ComplexDouble : ScalarType::ComplexFloat;

// The name of a dtype in Python.
inline const char* dtype_text(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::ComplexFloat:
      return "complex64";
    case ScalarType::ComplexDouble:
      return "complex128";
    case ScalarType::Half:
      return "float16";
    case ScalarType::BFloat16:
      return "bfloat16";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Long:
      return "int64";
    case ScalarType::Bool:
      return "bool";
    default:
      return torch::headeronly::toString(type);
  }
}

inline void check_type(const char* op, const ArgName& name, const Tensor& t, ScalarType expected) {
  if (t.scalar_type() != expected)
    fail(op, name, " must have dtype ", dtype_text(expected), ", got ",
         dtype_text(t.scalar_type()));
}

// Checks that `t` is float32 or float64, or complex64 or complex128 if `complex`; returns whether it is double
// precision.
inline bool check_floating(const char* op, const ArgName& name, const Tensor& t, bool complex) {
  const ScalarType type = t.scalar_type();
  const bool float64 = is_double(type);
  if (type != (complex ? complex_type(float64) : real_type(float64)))
    fail(op, name, " must have dtype ", complex ? "complex64 or complex128" : "float32 or float64",
         ", got ", dtype_text(type));
  return float64;
}

inline void check_rank(const char* op, const ArgName& name, const Tensor& t, int64_t rank,
                       const char* layout) {
  if (t.dim() != rank)
    fail(op, name, " must have shape ", layout, ", got ", shape_text(shape_of(t)));
}

inline void check_shape(const char* op, const ArgName& name, const Tensor& t,
                        const Shape& expected) {
  if (shape_of(t) != expected)
    fail(op, name, " must have shape ", shape_text(expected), ", got ", shape_text(shape_of(t)));
}

inline void check_same_device(const char* op, const ArgName& name, const Tensor& t,
                              const ArgName& other_name, const Tensor& other) {
  if (t.is_cuda() != other.is_cuda() || t.get_device_index() != other.get_device_index())
    fail(op, name, " and ", other_name, " must be on the same device, got ", device_text(t),
         " and ", device_text(other));
}

// `t` itself if it is contiguous, else a contiguous copy.
inline Tensor as_contiguous(const Tensor& t) {
  if (t.is_contiguous()) return t;
  const Shape shape = shape_of(t);
  return allocated(bytes_of(shape, t.scalar_type()), device_text(t), shape,
                   [&] { return torch::stable::contiguous(t); });
}

// Tells autograd that an op writes to the argument `t`. torch does not do this for ops that are registered in C++, and
// LibTorch's stable ABI has no function for it. But a write to an empty view increments the version counter of `t`.
inline void mark_as_written(Tensor& t) {
  Tensor view = torch::stable::narrow(t, 0, 0, 0);
  torch::stable::zero_(view);
}

template <typename V>
const V* const_data(const Tensor& t) {
  return static_cast<const V*>(t.const_data_ptr());
}

template <typename V>
V* mutable_data(Tensor& t) {
  return static_cast<V*>(t.mutable_data_ptr());
}

// Calls `kernel` with the arguments of an op. `prepared` is the result of prepare_<op>(), which has checked the
// arguments and allocated the results. It has the methods
//   float64()  whether the kernel computes in double precision,
//   count()    0 if there is nothing to compute,
//   args<T>()  the arguments of the kernel, a plain struct of pointers and sizes.
template <typename Prepared, typename Kernel>
void run_kernel(Prepared& prepared, const Kernel& kernel) {
  if (prepared.count() == 0) return;
  if (prepared.float64())
    kernel(prepared.template args<double>());
  else
    kernel(prepared.template args<float>());
}

}  // namespace steerlens
