// The ops that take whole planes, for CPUs of level x86-64-v3: eight lanes.
#include "../clones.h"

#if STEERLENS_HAS_LEVELS
#define STEERLENS_LANES 8
#include "register.h"
#endif
