// The scheduler's functions for the other files of the emulation.
#pragma once

#include <cstdint>
#include <string>

namespace emulation {

bool running();        // whether a kernel's thread runs
int current_thread();  // its number in its block
// Ends the launch with an error that names kernel, block and thread.
[[noreturn]] void stop_thread(const std::string& reason);
bool is_local(uintptr_t address);   // whether it lies on a thread's stack
bool is_shared(uintptr_t address);  // whether it lies in shared memory
std::string kernel_name(const void* kernel);

}  // namespace emulation
