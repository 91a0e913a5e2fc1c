// The ops on whole planes for CPUs with AVX-512 (x86-64-v4).
#include "../clones.h"

#if STEERLENS_HAS_LEVELS
#define STEERLENS_SIMD_WIDTH 16
#include "register.h"
#endif
