// The ops on whole planes for CPUs with AVX2 (x86-64-v3).
#include "../clones.h"

#if STEERLENS_HAS_LEVELS
#define STEERLENS_SIMD_WIDTH 8
#include "register.h"
#endif
