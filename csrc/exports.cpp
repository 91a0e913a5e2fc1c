// The C functions of the library, which steerlens_fast/native.py calls through ctypes. They describe the build and the
// process, free idle memory (allocation.h), and write large CPU buffers (streaming_stores.h). They do not use Python, so
// one binary works with every version of Python.
#include <algorithm>
#include <string>

#include "allocation.h"
#include "compiler.h"
#include "cpu/capability.h"
#include "cpu/parallel.h"
#include "prepare/planes.h"
#include "streaming_stores.h"

namespace {

// The functions take addresses, not tensors: a call through ctypes takes a microsecond, through the dispatcher eight.
char* address(uint64_t value) { return reinterpret_cast<char*>(value); }

template <typename T>
void stream_real(uint64_t to, uint64_t from, uint64_t count, int64_t stride, double low,
                 double high) {
  constexpr int64_t kElementsPerPiece = 1 << 14;
  const auto copy = [&](int64_t begin, int64_t end) {
    const uint64_t first = begin * kElementsPerPiece;
    const uint64_t last = std::min<uint64_t>(end * kElementsPerPiece, count);
    const T* source = reinterpret_cast<const T*>(from);
    T* target = reinterpret_cast<T*>(to);
    steerlens::stream_real<T>(target + first, source + stride * first, last - first,
                              static_cast<int>(stride), static_cast<T>(low), static_cast<T>(high));
  };
  steerlens::parallel_rows((count + kElementsPerPiece - 1) / kElementsPerPiece, kElementsPerPiece,
                           copy);
}

}  // namespace

// Describes the build, in lines of "name=value" for native.py.
SL_EXPORT const char* steerlens_build_info() {
  return "version=" STEERLENS_VERSION "\ncuda_archs=" STEERLENS_CUDA_ARCHS "\nnvcc=" STEERLENS_NVCC
         "\nreason=" STEERLENS_BUILD_REASON "\ntorch_built=" STEERLENS_TORCH_BUILT
         "\ntorch_target=" STEERLENS_TORCH_TARGET "\ncpu_levels=" STEERLENS_CPU_LEVELS
         "\ncompiler=" SL_COMPILER;
}

// The CPU level whose kernels this process runs.
SL_EXPORT const char* steerlens_cpu_capability() { return steerlens::cpu_capability_name(); }

// The value of STEERLENS_CPU_CAPABILITY if it is invalid, else "".
SL_EXPORT const char* steerlens_invalid_cpu_capability() {
  return steerlens::invalid_cpu_capability();
}

// The number of floats per vector in the ops on whole planes; 0 where there are no such ops.
SL_EXPORT int64_t steerlens_simd_width() { return steerlens::simd_width(); }

// Whether the ops on whole planes take planes and bands with a side of this length, on the CPU.
SL_EXPORT bool steerlens_plane_side_supported(int64_t side) {
  return steerlens::side_supported(steerlens::cpu_limits(steerlens::simd_width()), side);
}

// The number of parallel loops that the library has started in this process.
SL_EXPORT int64_t steerlens_parallel_regions() { return steerlens::parallel_regions(); }

// The first function returns the bytes of all idle blocks (allocation.h), the second frees these blocks.
SL_EXPORT int64_t steerlens_idle_bytes() { return steerlens::idle_blocks.bytes(); }
SL_EXPORT void steerlens_free_idle_blocks() { steerlens::idle_blocks.free_all(); }

// Asks the operating system for huge pages in a large, new buffer.
SL_EXPORT void steerlens_advise_huge_pages(uint64_t data, uint64_t bytes) {
  steerlens::advise_huge_pages(address(data), bytes);
}

// Copies with non-temporal stores.
SL_EXPORT void steerlens_stream_copy(uint64_t to, uint64_t from, uint64_t bytes) {
  constexpr int64_t kBytesPerPiece = 1 << 16;
  const auto copy = [&](int64_t begin, int64_t end) {
    const uint64_t first = begin * kBytesPerPiece;
    const uint64_t last = std::min<uint64_t>(end * kBytesPerPiece, bytes);
    steerlens::stream_copy(address(to) + first, address(from) + first, last - first);
  };
  // parallel_rows counts elements, here of 8 bytes.
  steerlens::parallel_rows((bytes + kBytesPerPiece - 1) / kBytesPerPiece, kBytesPerPiece / 8, copy);
}

// Writes clipped real parts with non-temporal stores.
SL_EXPORT void steerlens_stream_real_float(uint64_t to, uint64_t from, uint64_t count,
                                           int64_t stride, double low, double high) {
  stream_real<float>(to, from, count, stride, low, high);
}

SL_EXPORT void steerlens_stream_real_double(uint64_t to, uint64_t from, uint64_t count,
                                            int64_t stride, double low, double high) {
  stream_real<double>(to, from, count, stride, low, high);
}
