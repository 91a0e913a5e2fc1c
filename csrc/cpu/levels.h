// CPU levels: the same kernels, compiled for several generations of CPUs. Each cpu/kernels/*.cpp is compiled once for
// each level, with the level's flags (cpu_levels() in setup.py). The flags define STEERLENS_CPU_LEVEL, the namespace of
// the code, and STEERLENS_SIMD_WIDTH.
//
// If several objects contain the same inline function, the linker keeps one copy for all callers. This could be a copy
// for newer CPUs, which an older CPU cannot run. Therefore all functions in kernels are in the namespace of the level,
// or always inlined (SL_FN). Of the standard library, kernels use only functions that compilers inline.
#pragma once

#include <cstdint>

#include "capability.h"

// STEERLENS_AT_EACH_LEVEL declares a kernel for all levels. STEERLENS_CALL_KERNEL calls the kernel of the level that
// this process uses. STEERLENS_CALL_PLANES_KERNEL does so for the ops on whole planes. It must not be used at the level
// "default" of x86-64, which has no such kernels.
#if defined(STEERLENS_X86_LEVELS)
#define STEERLENS_AT_EACH_LEVEL(...) \
  namespace cpu_default {            \
  __VA_ARGS__;                       \
  }                                  \
  namespace cpu_avx2 {               \
  __VA_ARGS__;                       \
  }                                  \
  namespace cpu_avx512 {             \
  __VA_ARGS__;                       \
  }
#define STEERLENS_CALL_KERNEL(...)     \
  switch (cpu_capability()) {          \
    case CpuCapability::kAvx512:       \
      return cpu_avx512::__VA_ARGS__;  \
    case CpuCapability::kAvx2:         \
      return cpu_avx2::__VA_ARGS__;    \
    case CpuCapability::kDefault:      \
      return cpu_default::__VA_ARGS__; \
  }
#define STEERLENS_CALL_PLANES_KERNEL(...)                                     \
  return cpu_capability() == CpuCapability::kAvx512 ? cpu_avx512::__VA_ARGS__ \
                                                    : cpu_avx2::__VA_ARGS__
#else
#define STEERLENS_AT_EACH_LEVEL(...) \
  namespace cpu_default {            \
  __VA_ARGS__;                       \
  }
#define STEERLENS_CALL_KERNEL(...) return cpu_default::__VA_ARGS__
#define STEERLENS_CALL_PLANES_KERNEL(...) return cpu_default::__VA_ARGS__
#endif

// Declares, for all levels, a kernel in float32 and float64 that computes a range of its work. Defines the function
// `name`, which calls the kernel of the level that this process uses.
#define STEERLENS_DECLARE_KERNEL(name, Args)                                          \
  STEERLENS_AT_EACH_LEVEL(template <typename T>                                       \
                          void name(const Args<T>& args, int64_t begin, int64_t end)) \
  template <typename T>                                                               \
  void name(const Args<T>& args, int64_t begin, int64_t end) {                        \
    STEERLENS_CALL_KERNEL(name(args, begin, end));                                    \
  }

// The same for an op on whole planes, whose kernel computes all of its work in one call.
#define STEERLENS_DECLARE_PLANES_KERNEL(name, Args)                       \
  STEERLENS_AT_EACH_LEVEL(template <typename T> void name(Args<T>& args)) \
  template <typename T>                                                   \
  void name(Args<T>& args) {                                              \
    STEERLENS_CALL_PLANES_KERNEL(name(args));                             \
  }

// Must follow the definition of the kernel in its source file.
#define STEERLENS_INSTANTIATE_KERNEL(name, Args)            \
  template void name(const Args<float>&, int64_t, int64_t); \
  template void name(const Args<double>&, int64_t, int64_t);
