// Code compiled with -fsanitize=alignment calls this function at a misaligned access. A GPU reports an error there; x86
// does not.
#include <cstdint>
#include <sstream>

#include "scheduler.h"

namespace {

// The data that GCC passes.
struct Type {
  uint16_t kind, info;
  char name[1];
};
struct Mismatch {
  const char* file;
  uint32_t line, column;
  const Type* type;
  unsigned char log_alignment, access;
};

}  // namespace

extern "C" void __ubsan_handle_type_mismatch_v1(const Mismatch* data, uintptr_t address) {
  if (!emulation::running()) return;
  std::ostringstream out;
  out << "misaligned access to " << data->type->name << " at " << data->file << ":" << data->line
      << ": the address must be a multiple of " << (1 << data->log_alignment) << ", got 0x"
      << std::hex << address;
  emulation::stop_thread(out.str());
}
