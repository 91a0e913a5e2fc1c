// Functions compiled for several CPU levels (function multi-versioning, GCC on x86-64 Linux only); the
// loader chooses one at start. Only what is inlined into such a function is compiled for its level, so it
// contains its whole loop, and everything that the loop calls is SL_FN.
#pragma once

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && __GNUC__ >= 12
#define STEERLENS_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define STEERLENS_CPU_LEVELS "x86-64, x86-64-v3, x86-64-v4"
// Code between _BEGIN and STEERLENS_LEVEL_END is compiled for one level and called only where the CPU has it.
// Other headers are included outside of it: the linker keeps one copy of an inline function for all callers,
// which must not be one that older CPUs cannot run.
#define STEERLENS_HAS_LEVELS 1
#define STEERLENS_AVX2_BEGIN _Pragma("GCC push_options") _Pragma("GCC target(\"arch=x86-64-v3\")")
#define STEERLENS_AVX512_BEGIN _Pragma("GCC push_options") _Pragma("GCC target(\"arch=x86-64-v4\")")
#define STEERLENS_LEVEL_END _Pragma("GCC pop_options")
#else
#define STEERLENS_CLONES
#define STEERLENS_CPU_LEVELS "baseline"
#define STEERLENS_HAS_LEVELS 0
#endif

// Defines `name(const Args<float>&, begin, end)` and its float64 twin from the template name_body.
#define STEERLENS_CLONE_FOR_DTYPES(name, Args)                                              \
  STEERLENS_CLONES static void name(const Args<float>& args, int64_t begin, int64_t end) {  \
    name##_body(args, begin, end);                                                          \
  }                                                                                         \
  STEERLENS_CLONES static void name(const Args<double>& args, int64_t begin, int64_t end) { \
    name##_body(args, begin, end);                                                          \
  }
