// Extensions of standard C++ that GCC, clang and nvcc have, most of them with a fallback for other compilers.
// Outside of cuda/, the only other extensions are __restrict and the vectors in cpu/planes/simd.h, which need GCC or clang.
#pragma once

// A function that is always inlined. Otherwise, the linker could replace all copies by one that was compiled for newer
// CPUs (cpu/levels.h). SL_LAMBDA does the same for a lambda expression.
#if defined(__GNUC__) || defined(__CUDACC__)
#define SL_INLINE inline __attribute__((always_inline))
#define SL_LAMBDA __attribute__((always_inline))
#else
#define SL_INLINE inline
#define SL_LAMBDA
#endif

// A function for host and device, always inlined.
#if defined(__CUDACC__)
#define SL_FN __host__ __device__ SL_INLINE
#else
#define SL_FN SL_INLINE
#endif

// Unrolls the loop that follows, which has a small, constant number of iterations.
#if defined(__CUDA_ARCH__)
#define SL_UNROLL _Pragma("unroll")
#elif defined(__GNUC__) && !defined(__CUDACC__)  // not where nvcc compiles for the host
#define SL_UNROLL _Pragma("GCC unroll 8")
#else
#define SL_UNROLL
#endif

// Keeps GCC from unrolling the loop that follows, so that it vectorises the loop instead.
#if defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
#define SL_NO_UNROLL _Pragma("GCC unroll 1")
#else
#define SL_NO_UNROLL
#endif

// Asks the CPU to fetch the cache line of an address, which need not be valid.
#if defined(__GNUC__)
#define SL_PREFETCH(address) __builtin_prefetch(address)
#else
#define SL_PREFETCH(address) (void)0
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

// Whether this CPU has a feature. Used only on x86-64, where setup.py defines STEERLENS_X86_LEVELS.
#define SL_CPU_SUPPORTS(feature) (__builtin_cpu_init(), __builtin_cpu_supports(feature))

// An instruction for loops that wait; it saves power, and leaves the core to its other hardware thread.
#if defined(__SSE2__)
#define SL_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__) && defined(__GNUC__)
#define SL_PAUSE() __asm__ volatile("yield")
#else
#define SL_PAUSE() (void)0
#endif
