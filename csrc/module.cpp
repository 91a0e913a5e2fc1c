// The Python module `_C`. Importing it registers the ops (static initialisers in schema.cpp, cpu/ and cuda/).
// Its functions describe the build and write large CPU buffers (memory.h).
#include <pybind11/pybind11.h>

#include <algorithm>
#include <string>

#include "args/planes.h"
#include "cpu/clones.h"
#include "cpu/parallel.h"
#include "cpu/planes/capability.h"
#include "memory.h"

namespace py = pybind11;

namespace {

// Describes the build, and with cpu_capability the version of the ops on whole planes that this process runs.
py::dict build_info() {
  py::dict info;
  info["version"] = STEERLENS_VERSION;
  info["cuda"] = STEERLENS_WITH_CUDA != 0;
  info["cuda_archs"] = STEERLENS_CUDA_ARCHS;
  info["nvcc"] = STEERLENS_NVCC;
  info["reason"] = STEERLENS_BUILD_REASON;
  info["torch_built"] = STEERLENS_TORCH_BUILT;
  info["torch_target"] = STEERLENS_TORCH_TARGET;
  info["cpu_levels"] = STEERLENS_CPU_LEVELS;
  info["cpu_capability"] = steerlens::cpu_capability_name();
  info["compiler"] = __VERSION__;
  return info;
}

// Addresses rather than tensors: the stable ABI has no pybind11 casters.
char* address(uint64_t value) { return reinterpret_cast<char*>(value); }

void stream_copy(uint64_t to, uint64_t from, uint64_t bytes) {
  const py::gil_scoped_release release;
  constexpr int64_t kPiece = 1 << 16;
  const auto copy = [&](int64_t begin, int64_t end) {
    const uint64_t first = begin * kPiece, last = std::min<uint64_t>(end * kPiece, bytes);
    steerlens::stream_copy(address(to) + first, address(from) + first, last - first);
  };
  steerlens::parallel_rows((bytes + kPiece - 1) / kPiece, kPiece / 8, copy);
}

template <typename T>
void stream_real(uint64_t to, uint64_t from, uint64_t count, int stride, double low, double high) {
  const py::gil_scoped_release release;
  constexpr int64_t kPiece = 1 << 14;
  const auto copy = [&](int64_t begin, int64_t end) {
    const uint64_t first = begin * kPiece, last = std::min<uint64_t>(end * kPiece, count);
    const T* source = reinterpret_cast<const T*>(from);
    T* target = reinterpret_cast<T*>(to);
    steerlens::stream_real<T>(target + first, source + stride * first, last - first, stride,
                              static_cast<T>(low), static_cast<T>(high));
  };
  steerlens::parallel_rows((count + kPiece - 1) / kPiece, kPiece, copy);
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  if (!steerlens::invalid_cpu_capability().empty())
    throw py::import_error(
        "the environment variable STEERLENS_CPU_CAPABILITY must be avx512, avx2 or default, got '" +
        steerlens::invalid_cpu_capability() + "'");
  m.doc() = "Compiled part of steerlens_fast: torch.ops.steerlens_fast.*";
  m.def("build_info", &build_info, "How the module was built, as a dict.");
  m.def(
      "advise_huge_pages",
      [](uint64_t data, uint64_t bytes) { steerlens::advise_huge_pages(address(data), bytes); },
      "Ask the kernel for huge pages in a large, fresh CPU buffer (address, bytes).");
  m.def("stream_real_float", &stream_real<float>,
        "Write clipped real parts past the caches (to, from, count, stride, low, high): CPU "
        "addresses.");
  m.def("stream_real_double", &stream_real<double>, "stream_real_float in double precision.");
  m.def("stream_copy", &stream_copy, "Copy past the caches (to, from, bytes): CPU addresses.");
  m.def("plane_side_supported", &steerlens::side_supported,
        "Whether the ops on whole planes take planes and bands with a side of this many samples.");
  // The width of the blocks in which filters are laid out; 0 where there are no ops on whole planes.
  m.attr("SIMD_WIDTH") = steerlens::simd_width();
}
