// What compilers have beyond standard C++, with a fallback for those that lack it. Only vectors are elsewhere
// (cpu/planes/simd.h): where they are used, GCC or clang is needed.
#pragma once

// Always inlined: a copy that is not inlined is compiled for one CPU level, but the linker could also use it for
// another level (cpu/levels.h). SL_LAMBDA is the same for the function that a lambda expression defines.
#if defined(__GNUC__) || defined(__CUDACC__)
#define SL_INLINE inline __attribute__((always_inline))
#define SL_LAMBDA __attribute__((always_inline))
#else
#define SL_INLINE inline
#define SL_LAMBDA
#endif

// A function of host and device.
#if defined(__CUDACC__)
#define SL_FN __host__ __device__ SL_INLINE
#else
#define SL_FN SL_INLINE
#endif

// Placed before a loop with a small, constant number of iterations.
#if defined(__CUDA_ARCH__)
#define SL_UNROLL _Pragma("unroll")
#elif defined(__GNUC__) && !defined(__CUDACC__)  // not nvcc's pass for the host
#define SL_UNROLL _Pragma("GCC unroll 8")
#else
#define SL_UNROLL
#endif

// A C function that the library exports.
#if defined(_WIN32)
#define SL_EXPORT extern "C" __declspec(dllexport)
#elif defined(__GNUC__)
#define SL_EXPORT extern "C" __attribute__((visibility("default")))
#else
#define SL_EXPORT extern "C"
#endif

// The compiler's version, as text.
#if defined(__VERSION__)
#define SL_COMPILER __VERSION__
#else
#define SL_COMPILER "unknown"
#endif

// Whether this CPU has a feature; only where setup.py defines STEERLENS_X86_LEVELS.
#define SL_CPU_SUPPORTS(feature) (__builtin_cpu_init(), __builtin_cpu_supports(feature))

// Tells the CPU that a loop waits for another thread.
#if defined(__SSE2__)
#define SL_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__) && defined(__GNUC__)
#define SL_PAUSE() __asm__ volatile("yield")
#else
#define SL_PAUSE() (void)0
#endif
