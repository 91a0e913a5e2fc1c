// Allocates tensors, with errors that say what could not be allocated.
//
// LibTorch's stable ABI drops the type and the text of torch's errors, so these functions throw errors of their own.
// steerlens_fast/models/errors.py recognises their text "out of memory".
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__linux__)
#include <dlfcn.h>
#endif

namespace steerlens {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

using Shape = std::vector<int64_t>;

inline std::string shape_text(const Shape& shape) {
  std::ostringstream out;
  out << "[";
  for (size_t i = 0; i < shape.size(); ++i) out << (i ? ", " : "") << shape[i];
  out << "]";
  return out.str();
}

inline std::string device_text(const Tensor& t) {
  return t.is_cuda()  ? "cuda:" + std::to_string(t.get_device_index())
         : t.is_cpu() ? "cpu"
                      : "another device";
}

// A function of LibTorch that torch 2.10 does not have, or null. It is looked up at run time, since a library that
// links to it would not load with torch 2.10.
template <typename Function>
Function newer_torch_function([[maybe_unused]] const char* name) {
#if defined(__linux__)
  void* torch = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
  return torch == nullptr ? nullptr : reinterpret_cast<Function>(dlsym(torch, name));
#else
  return nullptr;
#endif
}

// The text of torch's last error in this thread; "" before torch 2.13.
using LastError = const char* (*)();
inline const LastError last_error =
    newer_torch_function<LastError>("torch_exception_get_what_without_backtrace");
inline std::string last_torch_error() { return last_error == nullptr ? "" : last_error(); }

// The size in bytes of a contiguous tensor.
inline int64_t bytes_of(const Shape& shape, ScalarType type) {
  const auto dtype = torch::stable::detail::to<int32_t>(torch::stable::detail::from(type));
  int64_t bytes = static_cast<int64_t>(aoti_torch_dtype_element_size(dtype));
  bool overflows = false;
  for (const int64_t n : shape) {
    if (n == 0) return 0;
    overflows = overflows || bytes > INT64_MAX / n;
    if (!overflows) bytes *= n;
  }
  if (overflows)
    throw std::runtime_error("a tensor of shape " + shape_text(shape) +
                             " would have more than 2^63 - 1 bytes");
  return bytes;
}

// What is allocated, for error messages.
struct Allocation {
  int64_t bytes;
  std::string device, shape;
};

// An allocation has failed: throws an error that says more than torch's.
[[noreturn]] inline void fail_allocation(const Allocation& wanted) {
  const std::string cause = last_torch_error();
  // A GPU also reports errors of earlier kernels when memory is allocated.
  const bool out_of_memory = cause.empty() || cause.find("out of memory") != std::string::npos ||
                             cause.find("allocate memory") != std::string::npos;
  std::ostringstream out;
  out << (out_of_memory ? "out of memory: " : "allocation failed: ") << wanted.bytes << " bytes on "
      << wanted.device;
  if (!wanted.shape.empty()) out << " (shape " << wanted.shape << ")";
  if (!cause.empty()) out << ": " << cause;
  throw std::runtime_error(out.str());
}

// Returns allocate(); if that fails, throws the error of fail_allocation().
template <typename Allocate>
Tensor allocated(const Allocation& wanted, const Allocate& allocate) {
  try {
    return allocate();
  } catch (const std::exception&) {
    fail_allocation(wanted);
  }
}

}  // namespace steerlens
