// Fibers: functions with stacks of their own, between which the scheduler switches. ucontext works everywhere, but needs a
// system call for each switch, so x86-64 has its own switch.
#pragma once

#include <cstddef>
#include <cstdint>

#if !defined(__x86_64__) || \
    defined(EMULATION_SANITIZED)  // the address sanitizer follows ucontext's switches
#include <ucontext.h>
#define EMULATION_UCONTEXT 1
#endif

namespace emulation {

#ifdef EMULATION_UCONTEXT

using Fiber = ucontext_t;

inline void make_fiber(Fiber& fiber, char* stack, size_t bytes, void (*run)()) {
  getcontext(&fiber);
  fiber.uc_stack.ss_sp = stack;
  fiber.uc_stack.ss_size = bytes;
  makecontext(&fiber, run, 0);
}

inline void switch_fiber(Fiber& from, Fiber& to) { swapcontext(&from, &to); }

#else

using Fiber =
    uintptr_t;  // the stack pointer; it points to the saved registers that a call must preserve

extern "C" void emulation_switch(Fiber* from, Fiber to);

inline void make_fiber(Fiber& fiber, char* stack, size_t bytes, void (*run)()) {
  auto* top = reinterpret_cast<uintptr_t*>(stack + bytes);
  *--top = 0;  // in place of a return address: the function never returns
  *--top = reinterpret_cast<uintptr_t>(run);
  fiber = reinterpret_cast<uintptr_t>(top - 6);  // the six registers that emulation_switch restores
}

inline void switch_fiber(Fiber& from, Fiber& to) { emulation_switch(&from, to); }

#endif

}  // namespace emulation
