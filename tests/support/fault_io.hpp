// FaultIo: while one lives, reads, writes, syncs, opens and fstat()s of this process meet the
// faults that a test asks for. Needs neither root nor a tracer: the test executable defines
// pread(), preadv(), preadv2(), pwrite(), fsync(), open(), openat(), fstat() and fcntl() itself,
// and a definition in the executable wins over those of shared libraries, sanitizers' too. Without
// a FaultIo they only make the system call.
//
//   FaultIo faults("a.safetensors");                      // files of this name; "" for all
//   faults.fail(IoCall::read, nth(3), EIO);
//   faults.shorten({.seed = 7});
//
// One at a time. Calls may come from any thread, and meet one lock, which hides races from a thread
// sanitizer; the FaultIo itself belongs to one thread and outlives the calls that it is to change.
// A file without a name has none of the names that a FaultIo is made for: "" matches it, too.
// Reads by the C and C++ libraries' streams and by mappings are not seen. Those by io_uring are not
// either: while a FaultIo lives, the system has no io_uring, and grants no leases, under which
// mappings are read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>

namespace flatbed::test {

enum class IoCall : std::uint8_t { open, read, stat, write, sync };

// Which calls of a kind on the named files, counted from 1 since the FaultIo was made.
struct Calls {
  std::uint64_t first = 1;
  std::uint64_t count = 1;
};
inline constexpr Calls kEveryCall{1, UINT64_MAX};
constexpr Calls nth(std::uint64_t n) { return {n, 1}; }

// Each read returns between `multiple` bytes and what it was asked for, a multiple of `multiple`;
// the bytes that were asked for and not returned are overwritten. Likewise for writes.
struct ShortReads {
  std::uint64_t seed = 1;
  std::size_t multiple = 1;
};

class FaultIo {
 public:
  // `name`: the last components of the path that a file has at the time of the call, links
  // followed; for an open, of the path that is opened.
  explicit FaultIo(std::string_view name = {});
  FaultIo(const FaultIo&) = delete;
  FaultIo& operator=(const FaultIo&) = delete;
  ~FaultIo();

  // The calls fail and do nothing.
  void fail(IoCall call, Calls which, int error_number);
  // Calls `hook` first; what that reads and opens is not counted and meets no faults.
  void before(IoCall call, Calls which, std::function<void()> hook);

  void end_early(Calls reads);  // returns 0
  void pretend(Calls reads);    // returns what was asked for, and touches nothing
  void flip_bit(Calls reads, std::uint64_t bit = 0);  // of the bytes read; counted modulo
  void shorten(ShortReads how);                       // all reads
  void shorten_writes(ShortReads how);                // all writes
  void write_nothing(Calls writes);                   // return 0
  void refuse_direct(IoCall call);  // EINVAL for open() with O_DIRECT, or for reads of such files

  [[nodiscard]] std::uint64_t count(IoCall call) const;
  [[nodiscard]] std::uint64_t direct_reads() const;  // those of files opened with O_DIRECT
};

}  // namespace flatbed::test
