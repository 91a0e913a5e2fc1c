// split_bands and merge_bands on CUDA. Each is one launch for all groups, since launches take most of the time for
// small batches.
//
// A block has a *chunk* of the image's frequencies: some rows and, for half spectra, also the rows of the opposite
// frequencies. A thread has one frequency. So a value of the spectrum is read or written once for all bands, and masks
// are kept in shared memory while the block computes one plane after another (or a few at a time, if planes are small).
//
// A thread uses a band at one or two places: at its own frequency and, for half spectra, at the opposite frequency,
// where the band has the conjugate. If threads accessed global memory at these places, few accesses of a warp would
// begin and end at sectors (32 bytes), and the sector in the middle of a row would be accessed twice. But together, a
// chunk's frequencies are a few whole rows of each band. So values pass through shared memory. There, threads access
// their places, and warps copy whole rows between shared and global memory, from sector to sector.
#include "../math/bands.h"

#include <optional>

#include "../prepare/bands.h"
#include "launch.h"

namespace steerlens {
namespace {

// Planes of a block, at most: see block_planes(). With this many, masks have at most 1/16 of the bands' bytes.
constexpr int kMaxBlockPlanes = 16;
// Threads that a multiprocessor should run, half of what it can: then a thread can use 64 registers.
constexpr int kRunningThreads = 1024;
// Threads of a block, at most. Blocks for small planes get as many rows or planes as kGoodBlockThreads allows.
constexpr int kMaxBlockThreads = 512, kGoodBlockThreads = 256;
// Values that a thread loads before it uses the first of them.
template <typename T>
constexpr int kValuesAtOnce = 32 / sizeof(Cplx<T>);
// Lanes that access complex64 in shared memory together. They have frequencies of one row, and so use different banks.
constexpr int kRowLanes = 16;
// Rows of a chunk times the image's width: at least this, if it fits. Then most of the sectors are whole.
constexpr int kMinRowColumns = 112;
// Shared memory of a block, at most.
constexpr int64_t kMaxBlockBytes = 40 << 10;
// A part of a row has this many columns, if possible: narrower parts share more sectors with their neighbours.
constexpr int64_t kMinPartColumns = 64;
// Masks that are not in shared memory are at most 1 / kMasksPerMissing of all masks, if possible.
constexpr int64_t kMasksPerMissing = 10;

// One access of 8 or 16 bytes; Cplx itself is aligned to 4 or 8.
template <typename T>
using Word = Pack<Cplx<T>, 1>;

// Reads by one access.
template <bool kShared, typename T>
__device__ __forceinline__ Cplx<T> read(const Word<T>* at) {
  const Word<T> word = kShared ? *at : load_one(at);
  return word.v[0];
}

// How the bands of a group, and masks, are placed in shared memory.
struct GroupLayout {
  int window_end;  // end of a window: its groups are in shared memory at the same time
  int offset;      // from the plane's first band to the group's first band
  int segment;     // values reserved for a Segment
  int mask;        // offset of the masks, or -1: read from global memory
  int mask_pitch;  // from row to row
  int log_parts;   // 2^log_parts warps copy a segment
};

// How the work is divided. Numbers named log_x stand for powers of two.
struct Layout {
  GroupLayout groups[kMaxGroups];
  bool staged;  // bands pass through shared memory; false if there are too many orientations
  // Rows and columns of a chunk, without the opposite rows. If there are several rows, they are whole.
  int rows, columns;
  int row_sets;        // 2 if a chunk also has the opposite rows, else 1
  int lanes;           // threads for a row
  int log_segments;    // segments of a band, see Segment
  int log_slots;       // planes that are computed at a time
  int spectrum, band;  // values in shared memory for a plane's spectrum, and for its bands
  int log_spectrum_parts;
  int64_t column_chunks, chunks;
  int block_planes;

  int plane_threads() const { return row_sets * rows * lanes; }
  // Additional warps only copy. Their number is the largest that does not reduce the number of running blocks.
  int threads() const {
    const int needed = ((plane_threads() << log_slots) + kWarp - 1) / kWarp * kWarp;
    const int blocks = kRunningThreads / needed;
    return blocks > 0 ? kRunningThreads / blocks / kWarp * kWarp : needed;
  }
};

// Consecutive values of each plane's band (or of its spectrum), which are copied together. If a chunk has whole rows,
// a segment has these rows, or the opposite ones. If a chunk has a part of one row of a half spectrum, a band has four
// segments: the same part of this row (0) and of the opposite row (1), then the mirrored part of this row (2) and of
// the opposite row (3).
struct Segment {
  int64_t start;
  int length;
  // Value i of the band is number `at + i` (modulo 2^32) of the band's values in shared memory.
  unsigned at;
};

constexpr int log2_ceil(int64_t x) {
  int log = 0;
  while (int64_t{1} << log < x) ++log;
  return log;
}

// The number of the image's rows before row Y whose frequencies a band of h rows also has. For whole spectra, the same
// holds for columns.
__device__ __forceinline__ int64_t rows_before(int64_t Y, int64_t h, int64_t H) {
  const int64_t first_negative = H - (h - 1) / 2, non_negative = h / 2 + 1;
  return (Y < non_negative ? Y : non_negative) + (Y > first_negative ? Y - first_negative : 0);
}

// A chunk, and the frequency of it that this thread computes.
template <typename T, bool kStaged>
class Chunk {
 public:
  using Pitch = std::conditional_t<kStaged, int, int64_t>;  // from band to band

  const BandArgs<T>& args;
  const Layout& layout;
  bool half;

  __device__ __forceinline__ Chunk(const BandArgs<T>& args, const Layout& layout)
      : args(args), layout(layout), half(!args.whole && !args.paired) {
    const int plane_threads = layout.row_sets * layout.rows * layout.lanes;
    slot_ = static_cast<int>(threadIdx.x) / plane_threads;
    const int i = static_cast<int>(threadIdx.x) % plane_threads;
    row_ = i / layout.lanes;
    column_ = i % layout.lanes;
  }

  __device__ __forceinline__ int slots() const { return 1 << layout.log_slots; }
  __device__ __forceinline__ int slot() const { return slot_; }

  // All threads of the block must call this. It waits for threads that still use the previous chunk.
  __device__ __forceinline__ void begin(int64_t chunk) {
    const int H = static_cast<int>(args.H), half_rows = H / 2 + 1, end = half ? half_rows : H;
    const int first = static_cast<int>(chunk / layout.column_chunks) * layout.rows;
    first_column_ = static_cast<int>(chunk % layout.column_chunks) * layout.columns;
    // The sets of rows: own, and opposite (a row that is opposite to itself is only in the first).
    const int own_end = first + layout.rows < end ? first + layout.rows : end;
    const int mirrored_begin = first > 0 ? first : 1;
    const int mirrored_end = 2 * (own_end - 1) == H ? own_end - 1 : own_end;
    set_ = row_ >= layout.rows;
    const int own = first + row_ - set_ * layout.rows;
    Y_ = set_ ? H - own : own;
    X_ = first_column_ + column_;
    inside_ = slot_ < slots() && own < own_end &&
              (!set_ || (own >= mirrored_begin && own < mirrored_end)) &&
              column_ < layout.columns && X_ < args.columns;
    frequency_ = set_ ? -own : static_cast<int>(signed_frequency(own, H));
    __syncthreads();
    if (kStaged) {
      const Rows opposite{H - mirrored_end + 1, H - mirrored_begin + 1};
      set_segments({first, own_end}, mirrored_begin < mirrored_end ? opposite : Rows{0, 0});
    }
    load_masks();
    __syncthreads();
  }

  // Whether this thread computes a frequency; other threads only copy.
  __device__ __forceinline__ bool inside() const { return inside_; }

  // This thread's value of the spectrum of plane n: in shared memory if kStaged.
  __device__ __forceinline__ Word<T>* spectrum(int64_t n) const {
    const unsigned at = static_cast<unsigned>(Y_) * static_cast<unsigned>(args.columns) + X_;
    if (kStaged)
      return stage() + slot_ * layout.spectrum +
             static_cast<int>(spectrum_segments()[set_].at + at);
    return reinterpret_cast<Word<T>*>(args.spectrum) + (n * args.H + Y_) * args.columns + X_;
  }

  // Calls body(band, pitch, masks, conjugate) for the places of group i that hold this thread's frequency or, if
  // `conjugate`, the opposite one. Stored band q has it at band + q * pitch, and masks(k) is the mask of orientation k.
  template <typename Body>
  __device__ __forceinline__ void for_each_place(int i, int64_t n, const Body& body) const {
    at_place(i, n, std::false_type(), body);
    if (half) at_place(i, n, std::true_type(), body);
  }

  // These copy spectra, or the bands of group i, to or from shared memory, for min(planes, slots()) planes from `first`
  // on. All warps of the block must call them.
  template <bool kLoad>
  __device__ __forceinline__ void copy_spectrum(int64_t first, int planes) const {
    copy<kLoad>(spectrum_segments(), layout.row_sets - 1, layout.log_spectrum_parts, args.spectrum,
                args.H * args.columns, 1, args.planes, stage(), layout.spectrum, 0, first, planes);
  }
  template <bool kLoad>
  __device__ __forceinline__ void copy_bands(int i, int64_t first, int planes) const {
    const BandGroup<T>& g = args.groups[i];
    const GroupLayout& place = layout.groups[i];
    copy<kLoad>(segments(i), layout.log_segments, place.log_parts, g.data, g.h * g.columns,
                static_cast<int>(g.num_stored), kLoad ? g.planes : args.planes,
                bands() + place.offset, layout.band, place.segment << layout.log_segments, first,
                planes);
  }

 private:
  struct Rows {
    int begin, end;
  };

  // Whether this thread's row is opposite to itself.
  __device__ __forceinline__ bool self_opposite() const {
    return frequency_ == 0 || 2 * frequency_ == static_cast<int>(args.H);
  }

  // Shared memory has the segments of the groups and of the spectrum, then, for each slot, the spectrum, then, for each
  // slot, the bands, then masks.
  __device__ __forceinline__ Segment* segments(int i) const {
    return reinterpret_cast<Segment*>(dynamic_shared_memory) + (i << layout.log_segments);
  }
  __device__ __forceinline__ Segment* spectrum_segments() const { return segments(args.count); }
  __device__ __forceinline__ Word<T>* stage() const {
    return reinterpret_cast<Word<T>*>(spectrum_segments() + 2);
  }
  __device__ __forceinline__ Word<T>* bands() const {
    return stage() + (layout.spectrum << layout.log_slots);
  }
  __device__ __forceinline__ T* masks() const {
    return kStaged ? reinterpret_cast<T*>(bands() + (layout.band << layout.log_slots))
                   : reinterpret_cast<T*>(dynamic_shared_memory);
  }

  __device__ __forceinline__ bool whole_rows() const { return layout.columns == args.columns; }

  __device__ __forceinline__ void set_segments(Rows own, Rows opposite) const {
    const int per_group = 1 << layout.log_segments;
    const int count = (args.count << layout.log_segments) + layout.row_sets;
    for (int j = threadIdx.x; j < count; j += blockDim.x) {
      const int i = j >> layout.log_segments, number = j & (per_group - 1);
      if (i < args.count) {
        const BandGroup<T>& g = args.groups[i];
        segments(0)[j] = segment(number, number % 2 ? opposite : own, g.h, g.w, g.columns,
                                 layout.groups[i].segment);
      } else {
        const int set = j - (args.count << layout.log_segments);
        segments(0)[j] = segment(set, set ? opposite : own, args.H, args.W, args.columns,
                                 layout.rows * layout.columns);
      }
    }
  }

  __device__ __forceinline__ Segment segment(int number, Rows image_rows, int64_t h, int64_t w,
                                             int64_t columns, int reserved) const {
    const int64_t first = rows_before(image_rows.begin, h, args.H);
    const int64_t rows = rows_before(image_rows.end, h, args.H) - first;
    int64_t begin = first_column_, end = begin + layout.columns;
    if (whole_rows()) {
      begin = 0;
      end = columns;
    } else if (!half) {
      begin = rows_before(begin, w, args.W);
      end = rows_before(end < args.W ? end : args.W, w, args.W);
    } else if (number < 2) {
      const int64_t non_negative = non_negative_columns(w);
      end = end < non_negative ? end : non_negative;
    } else {
      const int64_t mirrored_columns = columns - non_negative_columns(w);
      const int64_t last = end - 1 < mirrored_columns ? end - 1 : mirrored_columns;
      end = w - (begin > 1 ? begin : 1) + 1;
      begin = w - last;
    }
    const bool any = rows > 0 && begin < end;
    const int64_t start = first * columns + begin;
    const int64_t length = any ? (rows - 1) * columns + end - begin : 0;
    return {start, static_cast<int>(length),
            static_cast<unsigned>(number * reserved) - static_cast<unsigned>(start)};
  }

  // The masks of this thread's frequency. Each slot loads those of some orientations.
  __device__ __forceinline__ void load_masks() const {
    if (!inside_) return;
    for (int i = 0; i < args.count; ++i) {
      const BandGroup<T>& g = args.groups[i];
      if (layout.groups[i].mask < 0) continue;
      const int64_t area = g.h * g.columns;
      for (int conjugate = 0; conjugate <= half; ++conjugate) {
        int x, y;
        if (!find(i, conjugate, x, y)) continue;
        const T* from = g.mask + int64_t{y} * g.columns + x;
        T* to = masks() + mask_at(i, conjugate, x);
        const int pitch = orientation_pitch(i);
#pragma unroll 4
        for (int k = slot_; k < g.K; k += slots()) to[k * pitch] = load_one(from + k * area);
      }
    }
  }

  __device__ __forceinline__ bool mirrors(int i) const {
    return half && args.groups[i].columns > non_negative_columns(args.groups[i].w);
  }
  __device__ __forceinline__ int mask_rows() const { return layout.row_sets * layout.rows; }
  // From one orientation's masks to the next.
  __device__ __forceinline__ int orientation_pitch(int i) const {
    return (mask_rows() << mirrors(i)) * layout.groups[i].mask_pitch;
  }
  __device__ __forceinline__ int mask_at(int i, int conjugate, int x) const {
    return layout.groups[i].mask + (conjugate * mask_rows() + row_) * layout.groups[i].mask_pitch +
           (half || !whole_rows() ? column_ : x);
  }

  // Column and row of group i that hold this thread's frequency or, if `conjugate`, the opposite one. Returns false if
  // there are none.
  __device__ __forceinline__ bool find(int i, bool conjugate, int& x, int& y) const {
    const BandGroup<T>& g = args.groups[i];
    const int w = static_cast<int>(g.w), non_negative = w / 2 + 1, W = static_cast<int>(args.W);
    if (conjugate)
      x = X_ > 0 && X_ <= static_cast<int>(g.columns) - non_negative ? w - X_ : -1;
    else if (X_ < non_negative)
      x = X_;
    else
      x = !half && X_ > W - w + w / 2 ? X_ - W + w : -1;
    const int h = static_cast<int>(g.h);
    y = conjugate && !self_opposite() ? -frequency_ : frequency_;
    const bool has_row = 2 * y <= h && 2 * y > -h;  // as row_of_frequency, with 32 bits
    if (y < 0) y += h;
    return x >= 0 && has_row;
  }

  // `conjugate` is std::true_type or std::false_type, so that each value has its own code. The emulation needs this to
  // count traffic: it matches the n-th accesses of lanes at one place of the code, and some lanes have no conjugate.
  template <typename Conjugate, typename Body>
  __device__ __forceinline__ void at_place(int i, int64_t n, Conjugate conjugate,
                                           const Body& body) const {
    int x, y;
    if (!find(i, conjugate, x, y)) return;
    const BandGroup<T>& g = args.groups[i];
    const GroupLayout& place = layout.groups[i];
    const int64_t area = g.h * g.columns;
    Word<T>* band;
    Pitch pitch;
    if (kStaged) {
      const int set = conjugate && !self_opposite() ? 1 - set_ : set_;
      const Segment& of = segments(i)[conjugate && !whole_rows() ? 2 + set : set];
      const unsigned at = static_cast<unsigned>(y) * static_cast<unsigned>(g.columns) + x;
      band = bands() + slot_ * layout.band + place.offset + static_cast<int>(of.at + at);
      pitch = place.segment << layout.log_segments;
    } else {
      band =
          reinterpret_cast<Word<T>*>(g.data) + n * g.num_stored * area + int64_t{y} * g.columns + x;
      pitch = area;
    }
    if (kStaged && place.mask >= 0) {
      const T* mask = masks() + mask_at(i, conjugate, x);
      const int mask_step = orientation_pitch(i);
      body(band, pitch, [=](int k) { return mask[k * mask_step]; }, conjugate);
    } else {
      const T* mask = g.mask + int64_t{y} * g.columns + x;
      body(band, pitch, [=](int k) { return load_one(mask + k * area); }, conjugate);
    }
  }

  // Copies segments between global memory (`data`, planes of `bands` bands) and shared memory (`staged`). A warp takes
  // a part of a segment. In each of its accesses, the lanes take consecutive values that begin at a sector. Lanes that
  // would be beyond the segment repeat its first or last value.
  template <bool kLoad>
  __device__ __forceinline__ void copy(const Segment* segments, int log_segments, int log_parts,
                                       Cplx<T>* data, int64_t area, int bands, int64_t planes,
                                       Word<T>* staged, int plane_pitch, int band_pitch,
                                       int64_t first, int slots_used) const {
    constexpr int kInSector = 32 / sizeof(Cplx<T>), kInFlight = kValuesAtOnce<T>;
    const int lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
    const int count = bands << (log_parts + log_segments + layout.log_slots);
    for (int task = threadIdx.x / kWarp; task < count; task += warps) {
      const int part = task & ((1 << log_parts) - 1);
      const int number = task >> log_parts & ((1 << log_segments) - 1);
      const int slot = task >> (log_parts + log_segments) & (slots() - 1);
      const int band = task >> (log_parts + log_segments + layout.log_slots);
      const Segment of = segments[number];
      if (slot >= slots_used || of.length == 0) continue;
      int64_t n = first + slot;
      if (kLoad && n >= planes) n %= planes;
      Cplx<T>* global = data + (n * bands + band) * area + of.start;
      Word<T>* shared = staged + slot * plane_pitch + band * band_pitch +
                        static_cast<int>(of.at + static_cast<unsigned>(of.start));
      const int before = reinterpret_cast<uintptr_t>(global) / sizeof(Cplx<T>) % kInSector;
      const int step = kWarp << log_parts, last = of.length - 1;
      for (int i = part * kWarp - before; i <= last; i += kInFlight * step) {
        Word<T> value[kInFlight];
        const auto at = [&](int j) {
          const int place = i + j * step + lane;
          return place < 0 ? 0 : (place > last ? last : place);
        };
#pragma unroll
        for (int j = 0; j < kInFlight; ++j) {
          if (i + j * step > last) continue;
          value[j] = kLoad ? load<1>(global + at(j)) : shared[at(j)];
        }
#pragma unroll
        for (int j = 0; j < kInFlight; ++j) {
          if (i + j * step > last) continue;
          if (kLoad)
            shared[at(j)] = value[j];
          else
            store(global + at(j), value[j]);
        }
      }
    }
  }

  // This thread's place in every chunk.
  int slot_, row_, column_;
  // The current chunk, and this thread's place in it.
  int first_column_;
  bool inside_;
  int Y_, X_, set_, frequency_;
};

// Calls body(chunk, first, count) for all chunks and planes of this block. A call computes min(count, chunk.slots())
// planes from `first` on.
template <bool kStaged, typename T, typename Body>
__device__ __forceinline__ void for_each_chunk(const BandArgs<T>& args, const Layout& layout,
                                               const Body& body) {
  Chunk<T, kStaged> chunk(args, layout);
  for (int64_t i = blockIdx.x; i < layout.chunks; i += gridDim.x) {
    chunk.begin(i);
    for (int64_t n = int64_t{blockIdx.y} * layout.block_planes; n < args.planes;
         n += int64_t{gridDim.y} * layout.block_planes) {
      const int64_t remaining = args.planes - n;
      const int count =
          remaining < layout.block_planes ? static_cast<int>(remaining) : layout.block_planes;
#pragma unroll 1
      for (int done = 0; done < count; done += chunk.slots()) body(chunk, n + done, count - done);
    }
  }
}

// Writes value, or its conjugate, times i^i_power and masks to one place of all bands of a group.
template <typename T, typename Pitch, typename Masks>
__device__ __forceinline__ void write_place(const BandArgs<T>& args, const BandGroup<T>& g,
                                            Word<T>* band, Pitch pitch, const Masks& masks,
                                            bool conjugate, Cplx<T> value) {
  const Cplx<T> v = power_of_i<T>(g.i_power) * (conjugate ? conj(value) : value);
  const int K = static_cast<int>(g.K);
  constexpr int kUnrolled = kValuesAtOnce<T>;
  if (args.paired) {
#pragma unroll kUnrolled / 2
    for (int k = 0; k < K; k += 2, band += pitch)
      *band = {{pair_filter(masks(k), k + 1 < K ? masks(k + 1) : T(0), v)}};
  } else {
#pragma unroll kUnrolled
    for (int k = 0; k < K; ++k, band += pitch) *band = {{masks(k) * v}};
  }
}

template <typename T, bool kStaged>
__global__ void __launch_bounds__(kMaxBlockThreads, kRunningThreads / kMaxBlockThreads)
    split_kernel(const __grid_constant__ BandArgs<T> args, const __grid_constant__ Layout layout) {
  for_each_chunk<kStaged>(args, layout, [&](const auto& chunk, int64_t first, int count) {
    if (kStaged) {
      chunk.template copy_spectrum<true>(first, count);
      __syncthreads();
    }
    const int64_t n = first + chunk.slot();
    const bool active = chunk.inside() && chunk.slot() < count;
    Cplx<T> value{};
    if (active) value = read<kStaged>(chunk.spectrum(n));
    for (int begin = 0, window_end; begin < args.count; begin = window_end) {
      window_end = layout.groups[begin].window_end;
#pragma unroll 1
      for (int i = begin; active && i < window_end; ++i)
        chunk.for_each_place(i, n, [&](auto* band, auto pitch, const auto& masks, auto conjugate) {
          write_place(args, args.groups[i], band, pitch, masks, conjugate, value);
        });
      if (!kStaged) continue;
      __syncthreads();
#pragma unroll 1
      for (int i = begin; i < window_end; ++i) chunk.template copy_bands<false>(i, first, count);
      __syncthreads();
    }
  });
}

// total += i^i_power * mask * band, or its conjugate, summed up over all bands at one place of a group.
template <bool kStaged, typename T, typename Pitch, typename Masks>
__device__ __forceinline__ void add_place(const BandArgs<T>& args, const BandGroup<T>& g,
                                          const Word<T>* band, Pitch pitch, const Masks& masks,
                                          bool conjugate, Cplx<T>& total) {
  const Cplx<T> factor = power_of_i<T>(g.i_power);
  const int K = static_cast<int>(g.K);
  const auto add = [&](Cplx<T> value) {
    value = factor * value;
    total = total + (conjugate ? conj(value) : value);
  };
  constexpr int kUnrolled = kValuesAtOnce<T>;
  if (args.paired) {
#pragma unroll kUnrolled / 2
    for (int k = 0; k < K; k += 2, band += pitch)
      add(conjugate_pair_filter(masks(k), k + 1 < K ? masks(k + 1) : T(0), read<kStaged>(band)));
  } else {
#pragma unroll kUnrolled
    for (int k = 0; k < K; ++k, band += pitch) add(masks(k) * read<kStaged>(band));
  }
}

template <typename T, bool kStaged>
__global__ void __launch_bounds__(kMaxBlockThreads, kRunningThreads / kMaxBlockThreads)
    merge_kernel(const __grid_constant__ BandArgs<T> args, const __grid_constant__ Layout layout) {
  for_each_chunk<kStaged>(args, layout, [&](const auto& chunk, int64_t first, int count) {
    const int64_t n = first + chunk.slot();
    const bool active = chunk.inside() && chunk.slot() < count;
    Cplx<T> total{};
    for (int begin = 0, window_end; begin < args.count; begin = window_end) {
      window_end = layout.groups[begin].window_end;
      if (kStaged) {
#pragma unroll 1
        for (int i = begin; i < window_end; ++i) chunk.template copy_bands<true>(i, first, count);
        __syncthreads();
      }
#pragma unroll 1
      for (int i = begin; active && i < window_end; ++i)
        chunk.for_each_place(i, n % args.groups[i].planes,
                             [&](const auto* band, auto pitch, const auto& masks, auto conjugate) {
                               add_place<kStaged>(args, args.groups[i], band, pitch, masks,
                                                  conjugate, total);
                             });
      if (kStaged) __syncthreads();
    }
    if (active) *chunk.spectrum(n) = {{total}};
    if (!kStaged) return;
    __syncthreads();
    chunk.template copy_spectrum<false>(first, count);
  });
}

// --- Layout, on the host ---

struct Choice {
  Layout layout;
  int64_t bytes;    // shared memory
  bool fits;        // whether this is not more than a block may use
  bool most_masks;  // whether most masks are in shared memory, see kMasksPerMissing
};

// The shared memory that a block of this many threads may use, so that a multiprocessor with `shared_bytes` runs
// kRunningThreads. A multiprocessor reserves 1 KiB for each block.
int64_t max_block_bytes(int threads, int64_t shared_bytes) {
  const int blocks = std::max(1, kRunningThreads / threads);
  return std::min(kMaxBlockBytes, shared_bytes / blocks - (1 << 10));
}

// The layout of chunks of `rows` x `columns`, with 2^log_slots planes at a time. The masks of a group are in shared
// memory if they fit beside those of earlier groups, which are usually larger.
template <typename T>
Choice layout_of(const BandArgs<T>& args, int64_t rows, int64_t columns, int log_slots,
                 int64_t shared_bytes) {
  Choice choice{};
  Layout& layout = choice.layout;
  const bool half = !args.whole && !args.paired, whole_rows = columns == args.columns;
  layout.staged = true;
  layout.rows = static_cast<int>(rows);
  layout.columns = static_cast<int>(columns);
  layout.row_sets = half ? 2 : 1;
  layout.lanes = static_cast<int>((columns + kRowLanes - 1) / kRowLanes * kRowLanes);
  layout.log_segments = (half ? 1 : 0) + (half && !whole_rows ? 1 : 0);
  layout.log_slots = log_slots;
  layout.column_chunks = (args.columns + columns - 1) / columns;
  layout.chunks = ((half ? args.H / 2 + 1 : args.H) + rows - 1) / rows * layout.column_chunks;
  layout.spectrum = static_cast<int>(layout.row_sets * rows * columns);

  const int slots = 1 << log_slots, warps = layout.threads() / kWarp;
  const auto log_parts = [&](int64_t segments, int64_t length) {
    const int64_t accesses = (length + kWarp - 1) / kWarp;
    return log2_ceil(std::min((warps + segments - 1) / std::max<int64_t>(segments, 1), accesses));
  };
  layout.log_spectrum_parts = log_parts(slots * layout.row_sets, rows * columns);
  int64_t largest = 0, all = 0;
  for (int i = 0; i < args.count; ++i) {
    const BandGroup<T>& g = args.groups[i];
    GroupLayout& place = layout.groups[i];
    place.segment = static_cast<int>(std::min(rows, g.h) *
                                     (whole_rows ? g.columns : std::min(columns, g.columns)));
    const int64_t size = (g.num_stored * place.segment) << layout.log_segments;
    largest = std::max(largest, size);
    all += size;
    place.log_parts = log_parts((slots * g.num_stored) << layout.log_segments, place.segment);
  }

  // Masks. Rows that a warp reads together use different banks.
  constexpr int64_t kCplxBytes = sizeof(Cplx<T>);
  int64_t bytes = ((args.count << layout.log_segments) + 2) * int64_t{sizeof(Segment)} +
                  slots * layout.spectrum * kCplxBytes;
  const int64_t max = max_block_bytes(layout.threads(), shared_bytes);
  const int64_t max_mask_bytes = max - bytes - slots * largest * kCplxBytes;
  int64_t masks = 0, missing = 0, all_masks = 0;
  for (int i = 0; i < args.count; ++i) {
    const BandGroup<T>& g = args.groups[i];
    GroupLayout& place = layout.groups[i];
    const int64_t area = g.h * g.columns;
    int64_t pitch = half         ? std::min(columns, non_negative_columns(g.w))
                    : whole_rows ? g.columns
                                 : columns;
    if (layout.lanes % kWarp != 0)
      pitch = (pitch + kWarp - kRowLanes - 1) / kWarp * kWarp + kRowLanes;
    const int64_t places = half && g.columns > non_negative_columns(g.w) ? 2 : 1;
    const int64_t size = g.K * places * layout.row_sets * rows * pitch;
    const bool fits = (masks + size) * int64_t{sizeof(T)} <= max_mask_bytes;
    missing += fits ? 0 : g.K * area;
    all_masks += g.K * area;
    place.mask = fits ? static_cast<int>(masks) : -1;
    place.mask_pitch = static_cast<int>(pitch);
    if (fits) masks += size;
  }
  bytes += masks * int64_t{sizeof(T)};

  // Each window has the next groups that fit.
  const int64_t band = std::max(largest, std::min(all, (max - bytes) / (slots * kCplxBytes)));
  layout.band = static_cast<int>(band);
  for (int begin = 0, end; begin < args.count; begin = end) {
    int64_t used = 0;
    for (end = begin; end < args.count; ++end) {
      const BandGroup<T>& g = args.groups[end];
      const int64_t size = (g.num_stored * layout.groups[end].segment) << layout.log_segments;
      if (used + size > band) break;
      layout.groups[end].offset = static_cast<int>(used);
      used += size;
    }
    for (int i = begin; i < end; ++i) layout.groups[i].window_end = end;
  }
  choice.bytes = bytes + slots * band * kCplxBytes;
  choice.fits = choice.bytes <= max;
  choice.most_masks = missing * kMasksPerMissing <= all_masks;
  return choice;
}

// Divides a row into the fewest parts of at most `limit` columns. Returns the columns of a part, rounded up to a multiple
// of kRowLanes.
inline int64_t part_columns(int64_t columns, int64_t limit) {
  const int64_t parts = (columns + limit - 1) / limit;
  return ((columns + parts - 1) / parts + kRowLanes - 1) / kRowLanes * kRowLanes;
}

// The largest chunk that fits, of one row or a part of it, for one plane at a time.
template <typename T>
std::optional<Choice> largest_part(const BandArgs<T>& args, int64_t shared_bytes,
                                   int64_t min_columns, bool most_masks) {
  const int64_t row_sets = !args.whole && !args.paired ? 2 : 1;
  for (int64_t limit = kMaxBlockThreads / row_sets; limit >= kRowLanes;) {
    const int64_t columns =
        args.columns <= limit ? args.columns : part_columns(args.columns, limit);
    if (columns < std::min(args.columns, min_columns)) break;
    const Choice choice = layout_of(args, 1, columns, 0, shared_bytes);
    if (choice.fits && (choice.most_masks || !most_masks)) return choice;
    limit = (columns + kRowLanes - 1) / kRowLanes * kRowLanes - kRowLanes;
  }
  return std::nullopt;
}

// The layout for chunks that do not pass through shared memory.
template <typename T>
Choice unstaged_layout(const BandArgs<T>& args) {
  const int64_t columns = args.columns <= kGoodBlockThreads / 2
                              ? args.columns
                              : part_columns(args.columns, kGoodBlockThreads / 2);
  Choice choice = layout_of(args, 1, columns, 0, 0);
  choice.layout.staged = false;
  choice.bytes = 0;
  return choice;
}

// Extends chunks of one row to more rows, if rows are short, then to more planes at a time, as far as this fits.
template <typename T>
Choice grown(const BandArgs<T>& args, Choice choice, int64_t shared_bytes) {
  if (choice.layout.column_chunks > 1) return choice;
  const auto take = [&](int64_t rows, int log_slots) {
    const Choice more = layout_of(args, rows, args.columns, log_slots, shared_bytes);
    const bool good = more.fits && more.most_masks && more.layout.threads() <= kGoodBlockThreads;
    if (good) choice = more;
    return good;
  };
  const int64_t total_rows = choice.layout.chunks, wanted = (kMinRowColumns + args.W - 1) / args.W;
  for (int64_t rows = std::min(wanted, total_rows); rows > 1 && !take(rows, 0);) --rows;
  while ((1 << choice.layout.log_slots) < std::min<int64_t>(args.planes, kMaxBlockPlanes) &&
         take(choice.layout.rows, choice.layout.log_slots + 1)) {
  }
  return choice;
}

template <typename T>
Choice choose_layout(const BandArgs<T>& args, int64_t shared_bytes) {
  constexpr int64_t kUnlimited = INT64_MAX;
  if (const auto part = largest_part(args, shared_bytes, kMinPartColumns, true))
    return grown(args, *part, shared_bytes);
  // Otherwise a block may use kMaxBlockBytes, even if a multiprocessor then runs fewer threads.
  auto part = largest_part(args, kUnlimited, 1, true);
  if (!part) part = largest_part(args, kUnlimited, 1, false);
  if (!part) return unstaged_layout(args);
  // Chunks grow beyond `shared_bytes` only if they cannot grow within it.
  const Choice choice = grown(args, *part, shared_bytes);
  return choice.layout.threads() > part->layout.threads() ? choice : grown(args, *part, kUnlimited);
}

// Planes of a block: halved until each multiprocessor has two blocks, one of which computes while the other waits for
// memory. But masks are then read more often. A halving that leads to more than kMaxReads reads is not done.
int block_planes(const Layout& layout, int64_t planes, int multiprocessors) {
  constexpr int kMaxReads = 8;
  int count = kMaxBlockPlanes;
  const auto blocks = [&] { return layout.chunks * ((planes + count - 1) / count); };
  while (count > 1 << layout.log_slots && planes <= kMaxReads * count / 2 &&
         blocks() < 2 * multiprocessors)
    count /= 2;
  return count;
}

template <typename T>
using Kernel = void (*)(BandArgs<T>, Layout);

template <typename T>
void launch(Kernel<T> staged, Kernel<T> unstaged, const BandArgs<T>& args, const Tensor& spectrum) {
  const Launcher launcher(spectrum);
  Choice choice = choose_layout(args, launcher.shared_bytes_of_multiprocessor());
  Layout& layout = choice.layout;
  layout.block_planes = block_planes(layout, args.planes, launcher.multiprocessors());
  const dim3 grid(grid_size(layout.chunks, 1, kMaxGridX),
                  grid_size(args.planes, layout.block_planes, kMaxGridY));
  launcher.run_with_shared(static_cast<size_t>(choice.bytes), layout.staged ? staged : unstaged,
                           grid, layout.threads(), args, layout);
}

template <typename T>
void launch_split(const BandArgs<T>& args, const Tensor& spectrum) {
  launch<T>(split_kernel<T, true>, split_kernel<T, false>, args, spectrum);
}

template <typename T>
void launch_merge(const BandArgs<T>& args, const Tensor& spectrum) {
  launch<T>(merge_kernel<T, true>, merge_kernel<T, false>, args, spectrum);
}

std::vector<Tensor> split_bands(Tensor spectrum, std::vector<Tensor> masks,
                                std::vector<int64_t> i_powers, std::vector<int64_t> widths,
                                int64_t width, bool paired) {
  auto p = prepare_split_bands(spectrum, masks, i_powers, widths, width, paired);
  run_kernel(p, [&](const auto& args) { launch_split(args, p.spectrum); });
  return p.bands;
}

Tensor merge_bands(std::vector<Tensor> bands, std::vector<Tensor> masks,
                   std::vector<int64_t> i_powers, std::vector<int64_t> widths, int64_t height,
                   int64_t width, bool whole, bool paired) {
  auto p = prepare_merge_bands(bands, masks, i_powers, widths, height, width, whole, paired);
  run_kernel(p, [&](const auto& args) { launch_merge(args, p.spectrum); });
  return p.spectrum;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(steerlens_fast, CUDA, m) {
  m.impl("split_bands", TORCH_BOX(&split_bands));
  m.impl("merge_bands", TORCH_BOX(&merge_bands));
}

}  // namespace steerlens
