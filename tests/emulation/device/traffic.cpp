// Counts the sectors (32 bytes) of global memory that kernels access, and bank conflicts in shared memory.
//
// Kernels are compiled with -fsanitize=thread, but without the library of this sanitizer. So they call the functions at
// the end of this file before every access to memory. A *warp access* consists of the n-th accesses of all lanes of a warp
// at the same place of the program, counted from the last barrier, where all lanes wait for each other.
#include <pthread.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "scheduler.h"
#include "traffic.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Begin and end of this library in memory, with its constants and shared memory.
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _end[] __attribute__((visibility("hidden")));

namespace emulation::traffic {
namespace {

constexpr uintptr_t kSector = 32, kWidestAccess = 16;  // bytes
constexpr int kWarpSize = 32, kMaxThreads = 1024;
// In shared memory, neighbouring words are in neighbouring banks, and a bank serves one word at a time.
constexpr uintptr_t kBanks = 32, kWord = 4;

struct Access {
  int thread;       // see current_thread()
  uintptr_t place;  // in the program
  int barriers;     // number of barriers that the block has passed
  int occurrence;  // number of earlier accesses of the thread at this place, since the last barrier
  uintptr_t address;
  int bytes;
};

struct Count {
  // Warp accesses, the sectors that they touch, and sectors counted only once for each block.
  uint64_t accesses = 0, sectors = 0, block_sectors = 0;
};
struct SharedCount {
  // The number of steps that accesses take, and would take without bank conflicts. In a step, a bank serves one word.
  uint64_t wavefronts = 0, fewest = 0;
};
struct Counts {
  uint64_t launches = 0;
  Count loads, stores;
  SharedCount shared;
};

bool counting = false;
const void* kernel;
std::map<const void*, Counts> counts;
std::vector<Access> loads, stores, shared;  // accesses of the running cluster

void find_occurrences(std::vector<Access>& accesses) {
  const auto by_thread = [](const Access& a, const Access& b) {
    return std::tie(a.thread, a.place, a.barriers) < std::tie(b.thread, b.place, b.barriers);
  };
  std::stable_sort(accesses.begin(), accesses.end(), by_thread);
  for (size_t i = 1; i < accesses.size(); ++i) {
    const Access& before = accesses[i - 1];
    if (!by_thread(before, accesses[i])) accesses[i].occurrence = before.occurrence + 1;
  }
}

// The part of a warp access that a GPU serves together: 32 lanes for words of 4 bytes, 16 for 8 bytes, 8 for 16 bytes.
struct WarpPart {
  uintptr_t place;
  int barriers, occurrence, part;

  bool operator<(const WarpPart& other) const {
    return std::tie(place, barriers, occurrence, part) <
           std::tie(other.place, other.barriers, other.occurrence, other.part);
  }
};

// Processes one warp after another, since the map of all accesses of a cluster would be large and slow.
void add_shared(SharedCount& count, std::vector<Access>& accesses) {
  find_occurrences(accesses);  // sorts by thread
  std::map<WarpPart, std::set<uintptr_t>> words;
  for (size_t i = 0; i < accesses.size(); ++i) {
    const Access& a = accesses[i];
    const int lanes = a.bytes <= 4 ? kWarpSize : kWarpSize * 4 / a.bytes;
    const WarpPart warp_part{a.place, a.barriers, a.occurrence, a.thread % kWarpSize / lanes};
    for (uintptr_t at = a.address / kWord; at <= (a.address + a.bytes - 1) / kWord; ++at)
      words[warp_part].insert(at);
    const bool last = i + 1 == accesses.size();
    if (!last && accesses[i + 1].thread / kWarpSize == a.thread / kWarpSize) continue;
    for (const auto& [part, touched] : words) {
      int in_bank[kBanks] = {};
      for (uintptr_t word : touched) ++in_bank[word % kBanks];
      count.wavefronts += *std::max_element(std::begin(in_bank), std::end(in_bank));
      count.fewest += 1;
    }
    words.clear();
  }
  accesses.clear();
}

void add(Count& count, std::vector<Access>& accesses) {
  find_occurrences(accesses);
  std::vector<std::tuple<int, uintptr_t, int, int, uintptr_t>> touched;
  std::vector<std::pair<int, uintptr_t>> of_block;
  for (const Access& a : accesses)
    for (uintptr_t at = a.address / kSector; at <= (a.address + a.bytes - 1) / kSector; ++at) {
      touched.emplace_back(a.thread / kWarpSize, a.place, a.barriers, a.occurrence, at);
      of_block.emplace_back(a.thread / kMaxThreads, at);
    }
  const auto distinct = [](auto& items) {
    std::sort(items.begin(), items.end());
    items.erase(std::unique(items.begin(), items.end()), items.end());
    return items.size();
  };
  count.sectors += distinct(touched);
  count.block_sectors += distinct(of_block);
  for (size_t i = 0; i < touched.size(); ++i) {
    const auto access = [&](size_t j) {
      const auto& [warp, place, barriers, occurrence, sector] = touched[j];
      return std::make_tuple(warp, place, barriers, occurrence);
    };
    count.accesses += i == 0 || access(i) != access(i - 1);
  }
  accesses.clear();
}

// The stack of the thread that launches the kernel; it contains the parameters.
uintptr_t host_stack = 0, host_stack_end = 0;

void find_host_stack() {
  pthread_attr_t attributes;
  void* first = nullptr;
  size_t bytes = 0;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return;
  pthread_attr_getstack(&attributes, &first, &bytes);
  pthread_attr_destroy(&attributes);
  host_stack = reinterpret_cast<uintptr_t>(first);
  host_stack_end = host_stack + bytes;
}

bool is_global(uintptr_t address) {
  const bool constant = address >= reinterpret_cast<uintptr_t>(__ehdr_start) &&
                        address < reinterpret_cast<uintptr_t>(_end);
  const bool parameter = address >= host_stack && address < host_stack_end;
  return !is_local(address) && !constant && !parameter;
}

// Records an access. An access of more than 16 bytes to global memory is split, as on a GPU.
void record(std::vector<Access>& accesses, const void* address, size_t bytes, void* place) {
  if (!counting || !running()) return;
  const auto first = reinterpret_cast<uintptr_t>(address);
  if (is_shared(first))
    return shared.push_back({current_thread(), reinterpret_cast<uintptr_t>(place),
                             barriers_passed(), 0, first, static_cast<int>(bytes)});
  if (!is_global(first)) return;
  for (uintptr_t at = first; at < first + bytes; at += kWidestAccess)
    accesses.push_back({current_thread(), reinterpret_cast<uintptr_t>(place) + at - first,
                        barriers_passed(), 0, at,
                        static_cast<int>(std::min(kWidestAccess, first + bytes - at))});
}

std::string report() {
  std::ostringstream out;
  for (const auto& [kernel, count] : counts) {
    out << kernel_name(kernel) << "\t" << count.launches;
    for (const Count& c : {count.loads, count.stores})
      out << "\t" << c.accesses << "\t" << c.sectors << "\t" << c.block_sectors;
    out << "\t" << count.shared.wavefronts << "\t" << count.shared.fewest << "\n";
  }
  return out.str();
}

}  // namespace

void begin_launch(const void* launched) {
  kernel = launched;
  loads.clear();
  stores.clear();
  shared.clear();
  if (!counting) return;
  ++counts[kernel].launches;
  find_host_stack();
}

void end_cluster() {
  if (!counting) return;
  add(counts[kernel].loads, loads);
  add(counts[kernel].stores, stores);
  add_shared(counts[kernel].shared, shared);
}

}  // namespace emulation::traffic

// Sets all counts to zero and starts counting.
EXPORTED void emulation_start_counting() {
  emulation::traffic::counts.clear();
  emulation::traffic::counting = true;
}

// Stops counting and returns a line for each kernel, with tabs between the columns: kernel, launches; accesses, sectors
// and block_sectors of loads; the same of stores; wavefronts, and their number if there were no bank conflicts.
EXPORTED const char* emulation_stop_counting() {
  emulation::traffic::counting = false;
  static std::string text;
  text = emulation::traffic::report();
  return text.c_str();
}

#define RECORD(kind, bytes)                                           \
  extern "C" void __tsan_##kind##bytes(void* p) {                     \
    emulation::traffic::record(emulation::traffic::kind##s, p, bytes, \
                               __builtin_return_address(0));          \
  }                                                                   \
  extern "C" void __tsan_unaligned_##kind##bytes(void* p) {           \
    emulation::traffic::record(emulation::traffic::kind##s, p, bytes, \
                               __builtin_return_address(0));          \
  }
#define RECORD_ALL(kind)                                                                          \
  RECORD(kind, 1)                                                                                 \
  RECORD(kind, 2)                                                                                 \
  RECORD(kind, 4)                                                                                 \
  RECORD(kind, 8) RECORD(kind, 16) extern "C" void __tsan_##kind##_range(void* p, size_t bytes) { \
    emulation::traffic::record(emulation::traffic::kind##s, p, bytes,                             \
                               __builtin_return_address(0));                                      \
  }

namespace emulation::traffic {
std::vector<Access>&reads = loads, &writes = stores;  // the names that RECORD uses
}
RECORD_ALL(read)
RECORD_ALL(write)
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit(void*) {}
extern "C" void __tsan_vptr_update(void**, void*) {}
// std::shared_ptr and guards of static variables call these functions, outside of kernels.
extern "C" char __tsan_atomic8_load(const volatile char* p, int) {
  return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}
extern "C" int __tsan_atomic32_fetch_add(volatile int* p, int value, int) {
  return __atomic_fetch_add(p, value, __ATOMIC_SEQ_CST);
}
