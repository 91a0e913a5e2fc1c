// The Python module `_C`. Importing it registers the ops (static initialisers in schema.cpp, cpu/ and
// cuda/); it says what was built and advises the kernel about large buffers.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <string>

#include "args/planes.h"
#include "cpu/clones.h"
#include "cpu/parallel.h"
#include "cpu/planes/choice.h"
#include "memory.h"

namespace py = pybind11;

namespace {

// But for plane_lanes, which is what this CPU runs.
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
  info["plane_lanes"] = steerlens::plane_lanes();
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
  m.doc() = "Compiled part of steerlens_fast: torch.ops.steerlens_fast.*";
  m.def("build_info", &build_info, "What was built, as a dict.");
  m.def(
      "advise_huge_pages",
      [](uint64_t data, uint64_t bytes) { steerlens::advise_huge_pages(address(data), bytes); },
      "Ask the kernel for huge pages in a large, fresh CPU buffer (address, bytes).");
  m.def("stream_real_float", &stream_real<float>,
        "Clip real parts into a large buffer (to, from, count, stride, low, high).");
  m.def("stream_real_double", &stream_real<double>, "The same in double precision.");
  m.def("plane_side_fits", &steerlens::side_fits,
        "Whether they take planes, or bands, with a side of so many samples.");
  if (!steerlens::refused_lanes().empty())
    throw py::import_error("STEERLENS_LANES must be 0, 8 or 16 in the environment, got '" +
                           steerlens::refused_lanes() + "'");
  m.attr("PLANE_LANES") =
      steerlens::plane_lanes();  // rows side by side in the ops for whole planes; 0: none
  m.def("stream_copy", &stream_copy, "Copy past the caches (to, from, bytes): CPU addresses.");
}
