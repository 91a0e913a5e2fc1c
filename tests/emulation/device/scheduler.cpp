// Runs kernels on the CPU, one thread of the grid at a time. A thread that never waits is an ordinary function call. A
// thread that waits at a barrier or in a shuffle keeps its stack, and another thread runs. The order of blocks, warps and
// lanes is random, from a seed. A warp runs as far as it can before the next warp runs. This reveals kernels that assume
// that warps run at the same time.
//
// The blocks of a cluster take turns: one runs until all of its threads wait for the cluster. Shared memory is at the
// addresses of the __shared__ variables while its block runs. Otherwise it is saved elsewhere, where other blocks
// access it.
#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <mutex>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#define EMULATION_WITHOUT_TORCH
#include "cuda_runtime.h"
#include "fiber.h"
#include "scheduler.h"
#include "traffic.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Begin and end of the section with all __shared__ variables; null if there are none.
extern char __start_shared_memory[] __attribute__((weak, visibility("hidden")));
extern char __stop_shared_memory[] __attribute__((weak, visibility("hidden")));

// The limit of a block's static and dynamic shared memory. The size of static memory is not known here: kStaticBytes are
// assumed, and .ci/cuda-kernels finds kernels with more.
constexpr size_t kMaxSharedBytes = 48 << 10, kStaticBytes = 2 << 10;
constexpr size_t kMaxOptInBytes = 227 << 10;  // the limit of kernels that ask for more, on an H200
constexpr size_t kMarginBytes = 4 << 10;      // after the dynamic memory; no kernel may change it
namespace steerlens {
uint4 dynamic_shared_memory[(kMaxOptInBytes + kMarginBytes) / sizeof(uint4)];
}

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

#ifndef EMULATION_UCONTEXT
asm(R"(
.text
.globl emulation_switch
.hidden emulation_switch
.type emulation_switch, @function
emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulation_switch, .-emulation_switch
)");
#endif

namespace emulation {
namespace {

// Limits of all GPUs since sm_80; clusters exist since sm_90.
constexpr int kWarpSize = 32, kMaxThreads = 1024, kMaxClusterBlocks = 8;
constexpr int kMaxFibers = kMaxClusterBlocks * kMaxThreads;
constexpr uint64_t kMaxGridX = 2147483647, kMaxGridYZ = 65535, kMaxBlockXY = 1024, kMaxBlockZ = 64;
constexpr size_t kMaxParameterBytes = 4096;
// What an H200 has. A block takes kReservedSharedBytes more than it asks for. Threads are assumed to use kRegisters.
constexpr int kMultiprocessors = 132, kBlocksPerMultiprocessor = 32;
constexpr int kRegistersPerMultiprocessor = 64 << 10, kRegisters = 64;
constexpr size_t kSharedPerMultiprocessor = 228 << 10, kReservedSharedBytes = 1 << 10;
// The size of a fiber's stack; an access to its first kGuardBytes is an error.
constexpr size_t kStackBytes = 256 << 10, kGuardBytes = 4096;

bool operator!=(const Place& a, const Place& b) {
  return a.line != b.line || strcmp(a.file, b.file) != 0;
}

enum class State { kNotStarted, kReady, kAtBarrier, kAtCluster, kInShuffle, kEnded };

struct Thread {
  State state;
  int fiber;  // the fiber that runs this thread
  Place place;
  const char* shuffle_name;
  unsigned mask;
  bool vote;          // the value that the thread gave to the last any_of_block
  unsigned shuffles;  // the number of shuffles that the thread has entered
  // The values that the thread provided to the last two shuffles. Two are needed, since a thread may enter the next shuffle
  // before all others have read its value.
  uint64_t values[2];
};

// A block of the cluster. While it runs, its threads, any_vote and barriers are in the variables of these names below.
struct Block {
  uint3 index;
  std::vector<Thread> threads;
  std::vector<char> shared;  // static, then dynamic memory and its margin
  bool any_vote, ended;
  bool mapped;  // whether others may access its memory until the next cluster barrier
  int barriers;
};

std::mutex one_launch;
uint64_t seed = 0, random_state = 0;
unsigned max_grid_rows = 0;  // 0 means the limit of GPUs
int multiprocessor_count = kMultiprocessors;
bool has_clusters = true;
uint64_t cluster_launches = 0;
std::map<const void*, size_t> allowed_dynamic_bytes;  // keys: kernels that called ask_for_shared

const Launch* launch;
std::vector<Block> cluster;
int running_block = -1;           // its number in the cluster
bool cluster_has_met = false;     // at a barrier
std::vector<Thread> threads;      // threads of the running block
bool any_vote;                    // whether a thread gave true at the last barrier
int current = -1;                 // the thread that runs
int barriers;                     // the number of barriers that the running block has passed
std::vector<int> lanes_to_start;  // threads of the current warp, started from the back
Fiber scheduler, fibers[kMaxFibers];
std::vector<int> idle_fibers;
int fiber_count = 0, current_fiber = -1;
std::string error;

uint64_t random_number() {  // splitmix64
  uint64_t z = random_state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

template <typename T>
void shuffle_order(std::vector<T>& items) {
  for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random_number() % i]);
}

// --- Text of errors

std::string size_text(dim3 size) {
  std::ostringstream out;
  out << "(" << size.x << ", " << size.y << ", " << size.z << ")";
  return out.str();
}

std::string index_text(uint3 at) { return size_text({at.x, at.y, at.z}); }

[[noreturn]] void reject(const std::string& reason) {
  throw std::runtime_error("emulated CUDA: " + kernel_name(launch->kernel) + ": " + reason);
}

std::string state_text(const Thread& t) {
  std::ostringstream out;
  if (t.state == State::kEnded) return "ended";
  const char* const what = t.state == State::kAtBarrier   ? "__syncthreads"
                           : t.state == State::kAtCluster ? "cluster barrier"
                                                          : t.shuffle_name;
  out << what << " at " << t.place.file << ":" << t.place.line;
  if (t.state == State::kInShuffle) out << " with mask 0x" << std::hex << t.mask;
  return out.str();
}

// The states of all threads, such as "threads 0-31: ended; threads 32-63: __syncthreads at step.cu:24".
std::string waiting_text() {
  std::ostringstream out;
  for (size_t first = 0, i = 1; i <= threads.size(); ++i) {
    const std::string text = state_text(threads[first]);
    if (i < threads.size() && state_text(threads[i]) == text) continue;
    out << (first ? "; " : "") << "threads " << first << "-" << i - 1 << ": " << text;
    first = i;
  }
  return out.str();
}

// --- Fibers

void to_scheduler() { switch_fiber(fibers[current_fiber], scheduler); }

void resume(int fiber) {
  current_fiber = fiber;
  switch_fiber(scheduler, fibers[fiber]);
}

void set_thread(int t) {
  current = t;
  const unsigned x = blockDim.x, y = blockDim.y, i = t;
  threadIdx = {i % x, i / x % y, i / (x * y)};
}

// A fiber runs one thread after another. If a thread waits, it keeps this fiber, and another fiber runs the next thread.
void fiber_main() {
  for (;;) {
    while (!lanes_to_start.empty()) {
      const int t = lanes_to_start.back();
      lanes_to_start.pop_back();
      set_thread(t);
      threads[t].fiber = current_fiber;
      launch->run_thread();
      threads[current].state = State::kEnded;
    }
    idle_fibers.push_back(current_fiber);
    to_scheduler();
  }
}

// The memory of all stacks.
char* stacks() {
  static char* const memory =
      static_cast<char*>(mmap(nullptr, kMaxFibers * kStackBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  return memory;
}

int idle_fiber() {
  if (!idle_fibers.empty()) {
    const int fiber = idle_fibers.back();
    idle_fibers.pop_back();
    return fiber;
  }
  char* const stack = stacks() + fiber_count * kStackBytes;
  mprotect(stack, kGuardBytes, PROT_NONE);
  make_fiber(fibers[fiber_count], stack + kGuardBytes, kStackBytes - kGuardBytes, fiber_main);
  return fiber_count++;
}

void wait(State state, Place place) {
  Thread& t = threads[current];
  t.state = state;
  t.place = place;
  to_scheduler();
}

// --- The order of execution

int lanes_of(int warp) {
  return std::min<int>(kWarpSize, static_cast<int>(threads.size()) - warp * kWarpSize);
}

// Starts the lanes that have not started, and resumes those that need not wait. Returns whether there were any.
bool run_ready_lanes(int warp) {
  const uint64_t order = random_number();
  int ready[kWarpSize], count = 0;
  for (uint64_t i = 0; i < kWarpSize; ++i) {
    const int lane = static_cast<int>((order + i * (order >> 8 | 1)) % kWarpSize);
    if (lane >= lanes_of(warp)) continue;
    const int t = warp * kWarpSize + lane;
    if (threads[t].state == State::kNotStarted) lanes_to_start.push_back(t);
    if (threads[t].state == State::kReady) ready[count++] = t;
  }
  const bool any = count > 0 || !lanes_to_start.empty();
  while (!lanes_to_start.empty() && error.empty()) resume(idle_fiber());
  for (int i = 0; i < count && error.empty(); ++i) {
    set_thread(ready[i]);
    resume(threads[ready[i]].fiber);
  }
  return any;
}

// Whether all lanes in the mask of thread t have entered the same shuffle.
bool is_complete(const Thread* lanes, int lane_count, const Thread& t) {
  for (int i = 0; i < kWarpSize; ++i) {
    if (!(t.mask >> i & 1)) continue;
    if (i >= lane_count) return false;
    const Thread& other = lanes[i];
    if (other.state != State::kInShuffle || other.mask != t.mask || other.place != t.place)
      return false;
  }
  return true;
}

// Ends all shuffles that are complete.
void end_shuffles(int warp) {
  Thread* const lanes = &threads[warp * kWarpSize];
  const int count = lanes_of(warp);
  unsigned seen = 0;
  for (int i = 0; i < count; ++i) {
    if (lanes[i].state != State::kInShuffle || (seen >> i & 1)) continue;
    const unsigned mask = lanes[i].mask;
    seen |= mask;
    if (!is_complete(lanes, count, lanes[i])) continue;
    for (int j = 0; j < count; ++j)
      if (mask >> j & 1) lanes[j].state = State::kReady;
  }
}

// Opens the barrier if all threads of the block have reached it.
bool open_barrier() {
  const Place place = threads[0].place;
  for (const Thread& t : threads)
    if (t.state != State::kAtBarrier || t.place != place) return false;
  any_vote = std::any_of(threads.begin(), threads.end(), [](const Thread& t) { return t.vote; });
  for (Thread& t : threads) t.state = State::kReady;
  ++barriers;
  return true;
}

bool all_ended() {
  return std::all_of(threads.begin(), threads.end(),
                     [](const Thread& t) { return t.state == State::kEnded; });
}

// Sets an error if the block wrote beyond its dynamic shared memory.
void check_margin() {
  const auto* first = reinterpret_cast<const unsigned char*>(steerlens::dynamic_shared_memory);
  const auto* margin = first + launch->dynamic_shared_bytes;
  if (std::any_of(margin, margin + kMarginBytes, [](unsigned char c) { return c != 0xff; }))
    error = "block " + index_text(blockIdx) + " writes beyond its " +
            std::to_string(launch->dynamic_shared_bytes) + " bytes of dynamic shared memory";
}

// --- Clusters; a block that is in none is a cluster of its own

size_t static_bytes() {
  return __start_shared_memory ? __stop_shared_memory - __start_shared_memory : 0;
}

// Copies the saved shared memory of the running block to the addresses of its variables, or back.
void copy_shared(bool save) {
  auto* const dynamic = reinterpret_cast<char*>(steerlens::dynamic_shared_memory);
  char* const saved = cluster[running_block].shared.data();
  const size_t bytes = static_bytes(), dynamic_bytes = cluster[running_block].shared.size() - bytes;
  const auto copy = [save](char* at, char* saved_at, size_t n) {
    if (n > 0) memcpy(save ? saved_at : at, save ? at : saved_at, n);
  };
  copy(__start_shared_memory, saved, bytes);
  copy(dynamic, saved + bytes, dynamic_bytes);
}

// Begins or ends the turn of a block.
void swap_block(int rank, bool begin) {
  Block& block = cluster[rank];
  running_block = rank;
  blockIdx = block.index;
  copy_shared(!begin);
  threads.swap(block.threads);
  std::swap(any_vote, block.any_vote);
  std::swap(barriers, block.barriers);
}

// Runs a block until none of its threads can continue.
void run_block(int rank) {
  swap_block(rank, true);
  std::vector<int> warps((threads.size() + kWarpSize - 1) / kWarpSize);
  std::iota(warps.begin(), warps.end(), 0);
  do {
    shuffle_order(warps);
    for (const int warp : warps)
      while (error.empty() && run_ready_lanes(warp)) end_shuffles(warp);
  } while (error.empty() && open_barrier());
  if (error.empty()) check_margin();
  Block& block = cluster[rank];
  block.ended = all_ended();
  if (error.empty() && block.ended && block.mapped)
    error = "block " + index_text(blockIdx) +
            " ends, but other blocks of its cluster may still access its shared memory";
  swap_block(rank, false);
}

// Opens the cluster's barrier if all threads of all blocks have reached it.
bool open_cluster_barrier() {
  const Place place = cluster[0].threads[0].place;
  for (const Block& block : cluster)
    for (const Thread& t : block.threads)
      if (t.state != State::kAtCluster || t.place != place) return false;
  for (Block& block : cluster) {
    for (Thread& t : block.threads) t.state = State::kReady;
    block.mapped = false;
    ++block.barriers;
  }
  return cluster_has_met = true;
}

// Returns, for each block of the cluster, "block (0, 0, 0) has ended", or "block (0, 0, 0) never ends: " and the states
// of its threads.
std::string stuck_text() {
  std::string text;
  for (Block& block : cluster) {
    threads.swap(block.threads);
    text += (text.empty() ? "block " : "; block ") + index_text(block.index) +
            (block.ended ? " has ended" : " never ends: " + waiting_text());
    threads.swap(block.threads);
  }
  return text;
}

void run_cluster(uint64_t first, size_t thread_count) {
  cluster.resize(launch->cluster_blocks);
  cluster_has_met = false;
  std::vector<int> order(cluster.size());
  std::iota(order.begin(), order.end(), 0);
  for (const int rank : order) {
    Block& block = cluster[rank];
    const uint64_t i = first + rank;
    block.index = {static_cast<unsigned>(i % gridDim.x),
                   static_cast<unsigned>(i / gridDim.x % gridDim.y),
                   static_cast<unsigned>(i / gridDim.x / gridDim.y)};
    block.threads.assign(thread_count, Thread{});
    // Shared memory has no defined contents at the start of a block.
    block.shared.assign(static_bytes() + launch->dynamic_shared_bytes + kMarginBytes, '\xff');
    block.any_vote = block.ended = block.mapped = false;
    block.barriers = 0;
  }
  const auto has_not_ended = [](int rank) { return !cluster[rank].ended; };
  do {
    shuffle_order(order);
    for (const int rank : order)
      if (error.empty() && has_not_ended(rank)) run_block(rank);
    if (!error.empty() || std::none_of(order.begin(), order.end(), has_not_ended)) return;
  } while (open_cluster_barrier());
  error = stuck_text();
}

// Runs all clusters in a random order: at, at + step, at + 2 step ... modulo their number. This needs no list of clusters,
// of which there may be billions.
void run_blocks(uint64_t blocks, size_t thread_count) {
  const uint64_t count = blocks / launch->cluster_blocks;
  uint64_t step = count > 1 ? random_number() % count : 1;
  while (std::gcd(step, count) != 1) ++step;
  uint64_t at = random_number() % count;
  for (uint64_t i = 0; i < count && error.empty(); ++i) {
    run_cluster(at * launch->cluster_blocks, thread_count);
    traffic::end_cluster();
    at = (at + step) % count;
  }
}

void check_limits() {
  const dim3 &g = launch->grid, &b = launch->block;
  if (g.x < 1 || g.y < 1 || g.z < 1 || g.x > kMaxGridX || g.y > kMaxGridYZ || g.z > kMaxGridYZ)
    reject("the grid must be at most (2147483647, 65535, 65535) and not empty, got " +
           size_text(g));
  const uint64_t count = uint64_t{b.x} * b.y * b.z;
  if (count < 1 || b.x > kMaxBlockXY || b.y > kMaxBlockXY || b.z > kMaxBlockZ ||
      count > kMaxThreads)
    reject("a block must have 1 to 1024 threads and at most (1024, 1024, 64), got " + size_text(b));
  if (launch->parameter_bytes > kMaxParameterBytes)
    reject("parameters must have at most 4096 bytes, got " +
           std::to_string(launch->parameter_bytes));
  const auto allowed = allowed_dynamic_bytes.find(launch->kernel);
  const size_t limit = allowed == allowed_dynamic_bytes.end()
                           ? kMaxSharedBytes
                           : std::max(kMaxSharedBytes, allowed->second + kStaticBytes);
  const size_t shared = launch->dynamic_shared_bytes + kStaticBytes;
  if (shared > limit)
    reject("shared memory must have at most " + std::to_string(limit) +
           " bytes, of which 2048 are for static memory, got " + std::to_string(shared));
  const unsigned blocks = launch->cluster_blocks;
  if (blocks < 1 || blocks > kMaxClusterBlocks)
    reject("a cluster must have 1 to 8 blocks, got " + std::to_string(blocks));
  if (g.x % blocks != 0)
    reject("the grid's x must be a multiple of the cluster's " + std::to_string(blocks) +
           " blocks, got " + size_text(g));
}

}  // namespace

std::string kernel_name(const void* kernel) {
  Dl_info info;
  if (!dladdr(kernel, &info)) return "?";
  const auto offset = static_cast<const char*>(kernel) - static_cast<const char*>(info.dli_fbase);
  std::ifstream symbols(std::string(info.dli_fname) + ".symbols");  // build.py writes it
  uint64_t at;
  for (std::string name; symbols >> std::hex >> at && std::getline(symbols, name);)
    if (at == static_cast<uint64_t>(offset)) return name.substr(name.find_first_not_of(' '));
  return "?";
}

// Drops the stack frames of the kernel. The objects in them must not need destructors.
void stop_thread(const std::string& reason) {
  std::ostringstream out;
  out << "block " << index_text(blockIdx) << ", thread " << current << ": " << reason;
  error = out.str();
  to_scheduler();
  __builtin_unreachable();
}

bool is_local(uintptr_t address) {
  const auto first = reinterpret_cast<uintptr_t>(stacks());
  return address >= first && address < first + kMaxFibers * kStackBytes;
}

bool is_shared(uintptr_t address) {
  const auto within = [&](const void* first, const void* end) {
    return address >= reinterpret_cast<uintptr_t>(first) &&
           address < reinterpret_cast<uintptr_t>(end);
  };
  const auto saved = [&](const Block& block) {
    return within(block.shared.data(), block.shared.data() + block.shared.size());
  };
  return within(__start_shared_memory, __stop_shared_memory) ||
         within(std::begin(steerlens::dynamic_shared_memory),
                std::end(steerlens::dynamic_shared_memory)) ||
         std::any_of(cluster.begin(), cluster.end(), saved);
}

bool running() { return current >= 0; }
int current_thread() { return running_block * kMaxThreads + current; }
int barriers_passed() { return barriers; }
int lane() { return current % kWarpSize; }

int multiprocessors() { return multiprocessor_count; }

int blocks_per_multiprocessor(int threads, size_t dynamic_shared_bytes) {
  const int registers = (threads + kWarpSize - 1) / kWarpSize * kWarpSize * kRegisters;
  const size_t shared = dynamic_shared_bytes + kStaticBytes + kReservedSharedBytes;
  return std::min({kBlocksPerMultiprocessor, kRegistersPerMultiprocessor / registers,
                   static_cast<int>(kSharedPerMultiprocessor / shared)});
}

bool ask_for_shared(const void* kernel, size_t dynamic_bytes) {
  if (dynamic_bytes + kStaticBytes > kMaxOptInBytes) return false;
  allowed_dynamic_bytes[kernel] = dynamic_bytes;
  return true;
}

size_t max_shared_bytes() { return kMaxOptInBytes; }
size_t shared_bytes_per_multiprocessor() { return kSharedPerMultiprocessor; }
bool clusters_supported() { return has_clusters; }

unsigned block_rank() { return running_block; }
unsigned cluster_blocks() { return launch->cluster_blocks; }

void wait_for_block(Place place) { wait(State::kAtBarrier, place); }
void wait_for_cluster(Place place) { wait(State::kAtCluster, place); }

uintptr_t map_shared(uintptr_t address, unsigned rank) {
  const auto number = [](unsigned i) { return std::to_string(i); };
  if (rank >= cluster.size())
    stop_thread("map_shared_rank must have a rank below " + number(cluster.size()) + ", got " +
                number(rank));
  if (!cluster_has_met)
    stop_thread("map_shared_rank before a cluster barrier: block " + number(rank) +
                " of the cluster may not have started");
  Block& block = cluster[rank];
  if (block.ended)
    stop_thread("map_shared_rank of block " + number(rank) + " of the cluster, which has ended");
  if (static_cast<int>(rank) == running_block) return address;
  block.mapped = true;
  char* const saved = block.shared.data();
  const auto dynamic = reinterpret_cast<uintptr_t>(steerlens::dynamic_shared_memory);
  const auto first = reinterpret_cast<uintptr_t>(__start_shared_memory);
  if (address >= first && address < first + static_bytes())
    return reinterpret_cast<uintptr_t>(saved) + address - first;
  if (address >= dynamic && address < dynamic + launch->dynamic_shared_bytes)
    return reinterpret_cast<uintptr_t>(saved) + static_bytes() + address - dynamic;
  stop_thread("map_shared_rank must have an address in shared memory");
}

bool any_of_block(bool value, Place place) {
  threads[current].vote = value;
  wait(State::kAtBarrier, place);
  return any_vote;  // the next barrier does not open before all threads have read it
}

uint64_t exchange(unsigned mask, uint64_t value, int source, Place place, const char* what) {
  Thread& t = threads[current];
  const int first = current - lane();
  t.shuffle_name = what;
  t.mask = mask;
  t.values[t.shuffles++ % 2] = value;
  if (!(mask >> lane() & 1))
    stop_thread(std::string(what) + " must have the thread's own lane in its mask");
  wait(State::kInShuffle, place);
  if (source < 0 || source >= kWarpSize || !(mask >> source & 1))
    stop_thread(std::string(what) + " reads from a lane that is not in the mask");
  return threads[first + source].values[(threads[current].shuffles - 1) % 2];
}

void run(const Launch& wanted) {
  const std::lock_guard<std::mutex> lock(one_launch);
  launch = &wanted;
  check_limits();
  random_state = seed;
  blockDim = wanted.block;
  gridDim = wanted.grid;
  if (max_grid_rows) gridDim.y = std::min(gridDim.y, max_grid_rows);
  traffic::begin_launch(wanted.kernel);
  cluster_launches += wanted.cluster_blocks > 1;
  run_blocks(uint64_t{gridDim.x} * gridDim.y * gridDim.z,
             size_t{blockDim.x} * blockDim.y * blockDim.z);
  current = -1;
  if (error.empty()) return;
  const std::string reason = std::exchange(error, {});
  fiber_count = 0;  // the threads of these fibers never end, so the next launch makes new fibers
  idle_fibers.clear();
  lanes_to_start.clear();
  reject(reason);
}

}  // namespace emulation

// Sets the seed of the order of threads for all later launches.
EXPORTED void emulation_set_seed(uint64_t value) { emulation::seed = value; }

// Limits the rows of grids (gridDim.y), so that tests can check that kernels loop over planes; 0 restores the real limit.
EXPORTED void emulation_set_max_grid_rows(unsigned rows) { emulation::max_grid_rows = rows; }

// Sets whether the device can run clusters of blocks. Returns the number of earlier launches that had clusters
// of several blocks.
EXPORTED uint64_t emulation_set_clusters(bool supported) {
  emulation::has_clusters = supported;
  return emulation::cluster_launches;
}

// Sets the number of multiprocessors, on which the work of a block depends; 0 restores that of an H200.
EXPORTED void emulation_set_multiprocessors(int count) {
  emulation::multiprocessor_count = count ? count : emulation::kMultiprocessors;
}
