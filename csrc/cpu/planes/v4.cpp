// The ops that take whole planes, for CPUs of level x86-64-v4: sixteen lanes.
#include "../clones.h"

#if STEERLENS_HAS_LEVELS
#define STEERLENS_LANES 16
#include "register.h"
#endif
