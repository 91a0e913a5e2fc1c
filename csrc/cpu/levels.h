// The CPU levels that kernels are compiled for: cpu/kernels/*.cpp becomes one object for each level, with its own
// compiler flags (setup.py). These define STEERLENS_CPU_LEVEL, the namespace of all code of the object, and
// STEERLENS_SIMD_WIDTH. Of an inline function that several objects contain, the linker keeps one copy for all
// callers; an older CPU could not run a copy compiled for a newer one. In kernels, every function is therefore in
// the level's namespace or SL_FN; from the standard library, kernels call only functions that compilers inline.
#pragma once

#include <cstdint>

#include "capability.h"

// The declaration of a kernel for each level.
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
#else
#define STEERLENS_AT_EACH_LEVEL(...) \
  namespace cpu_default {            \
  __VA_ARGS__;                       \
  }
#endif

// Calls a kernel of the level that this process uses.
#if defined(STEERLENS_X86_LEVELS)
#define STEERLENS_CALL_KERNEL(...)     \
  switch (cpu_capability()) {          \
    case CpuCapability::kAvx512:       \
      return cpu_avx512::__VA_ARGS__;  \
    case CpuCapability::kAvx2:         \
      return cpu_avx2::__VA_ARGS__;    \
    case CpuCapability::kDefault:      \
      return cpu_default::__VA_ARGS__; \
  }
#else
#define STEERLENS_CALL_KERNEL(...) return cpu_default::__VA_ARGS__
#endif

// Declares a kernel on ranges of its work, in float32 and float64, for each level; defines `name`, which calls the
// kernel of the level that this process uses.
#define STEERLENS_DECLARE_KERNEL(name, Args)                                          \
  STEERLENS_AT_EACH_LEVEL(template <typename T>                                       \
                          void name(const Args<T>& args, int64_t begin, int64_t end)) \
  template <typename T>                                                               \
  void name(const Args<T>& args, int64_t begin, int64_t end) {                        \
    STEERLENS_CALL_KERNEL(name(args, begin, end));                                    \
  }

// The same for a kernel that does all of its work in one call.
#define STEERLENS_DECLARE_PLANES_KERNEL(name, Args)                       \
  STEERLENS_AT_EACH_LEVEL(template <typename T> void name(Args<T>& args)) \
  template <typename T>                                                   \
  void name(Args<T>& args) {                                              \
    STEERLENS_CALL_KERNEL(name(args));                                    \
  }

// To be placed in the kernel's source file, after the kernel's definition.
#define STEERLENS_INSTANTIATE_KERNEL(name, Args)            \
  template void name(const Args<float>&, int64_t, int64_t); \
  template void name(const Args<double>&, int64_t, int64_t);
#define STEERLENS_INSTANTIATE_PLANES_KERNEL(name, Args) template void name(Args<float>&);
