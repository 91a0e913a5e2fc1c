// Functions of the scheduler that other files of the emulation use.
#pragma once

#include <cstdint>
#include <string>

namespace emulation {

bool running();  // whether a thread of a kernel runs
int current_thread();  // the number of this thread in its block, plus 1024 times the block's rank in its cluster
int barriers_passed();  // by the block
// Ends the launch with an error that names kernel, block and thread.
[[noreturn]] void stop_thread(const std::string& reason);
bool is_local(uintptr_t address);   // whether the address is on the stack of a thread
bool is_shared(uintptr_t address);  // whether the address is in shared memory
std::string kernel_name(const void* kernel);

}  // namespace emulation
