// RowGather: moves narrow rows in a slot together, so that a device copies them as one block. Owns
// a buffer. Not thread-safe: each reading thread has one.
//
//   slot     aaa.....aaa.....aaa.....    a column slice: one piece of 3 rows, to a packed place
//   after    aaaaaaaaa...............    one piece of 1 row
//
// A device's copy engine moves each row of a pitched copy by itself, and does not reach its rate
// with rows of a few hundred bytes; the processor has just hashed the bytes and has them in its
// cache. Where the slices of several ranks lie in one slot, rows lie between those of another, so
// they are gathered in the buffer first, and then put back side by side:
//
//   slot     aaabbbccaaabbbccaaabbbcc    three pieces, also for different devices
//   after    aaaaaaaaabbbbbbbbbcccccc
//
// Only rows whose destination is packed are gathered, and only where nothing else lies among them
// that is copied; the rest is left to the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "flatbed/device.hpp"
#include "io/large_allocator.hpp"

namespace flatbed {

// Rows of at least this size are left to the device. No GPU was measured; what the processor pays
// was, on one core of an AMD EPYC, with one row of eight in a slot of 8 MiB: 36 us for 1 KiB rows
// (29 GB/s), of about 900 us that hashing the slot takes. From 4 KiB on, a page, a row is a few of
// the largest requests that cross the bus, and pitched copies lose little.
inline constexpr std::uint64_t kNarrowNbytes = 4096;

class RowGather {
 public:
  // `pieces` of each device have their sources in `slot`. Those of the first device, the host, stay
  // as they are.
  void gather(std::byte* slot, std::span<std::vector<CopyPiece>> pieces);

 private:
  // Bytes [begin, end) of the slot that copies read. A strip is one of pieces of narrow rows that
  // arrive one after the other; others have none.
  struct Extent {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint32_t device = 0;
    std::uint32_t first = 0;   // index of its first piece
    std::uint32_t count = 0;   // number of its pieces, if it is a strip
    std::uint64_t nbytes = 0;  // of its rows
  };

  void find_extents(const std::byte* slot, std::span<std::vector<CopyPiece>> pieces);
  void gather_together(std::byte* slot, std::span<std::vector<CopyPiece>> pieces,
                       std::span<const Extent> strips);

  std::vector<Extent> extents_;
  LargeBlock buffer_;
  std::uint64_t buffer_nbytes_ = 0;
};

}  // namespace flatbed
