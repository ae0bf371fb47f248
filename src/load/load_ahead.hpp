// LoadAhead: the jobs of one thread whose bytes are on their way past the page cache. Each job is
// read in pieces, so that its first bytes are hashed while its last ones are still being read, and
// other jobs are begun before the first is finished:
//
//   disk     |--- job 0 ---|--- job 1 ---|--- job 2 ---|
//   hash         |0|0|0|0|     |1|1|1|1|     |2|2|2|2|
//
// What arrives in another way than wanted (short, failed, interrupted, cancelled) is read once more
// by LoadFile, which knows what to do about all of that. Borrows the queue; not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "io/read_queue.hpp"
#include "load/load_file.hpp"
#include "load/load_schedule.hpp"

namespace flatbed {

// The size of one read, and how much of one thread may be under way. Measured on a virtual disk of
// 4 GB/s that takes requests of 4 MiB (bench/results/2026-11-30-ahead.txt): 4 MiB took 3 percent
// less time than 1 MiB, and 64 MiB under way 1.5 percent less than 32.
inline constexpr std::uint64_t kAheadPieceNbytes = 4 << 20;
inline constexpr std::uint64_t kAheadNbytes = 64 << 20;

class LoadAhead {
 public:
  // A job that is being read to `at`.
  struct Flight {
    const Job* job = nullptr;
    std::byte* at = nullptr;  // the place of the job's first byte
    std::optional<std::uint32_t> slot = {};
  };

  explicit LoadAhead(ReadQueue& queue) : queue_(queue) {}
  LoadAhead(const LoadAhead&) = delete;
  LoadAhead& operator=(const LoadAhead&) = delete;
  ~LoadAhead();

  [[nodiscard]] bool empty() const noexcept { return flights_.empty(); }
  // Whether the job should wait until another is finished.
  [[nodiscard]] bool is_full(const Job& job) const noexcept {
    return !empty() && (nbytes_ + job.nbytes > kAheadNbytes);
  }

  // Begins to read a job. A slot is written in whole blocks around it, other places only within.
  void begin(const Flight& flight, LoadFile& file);

  [[nodiscard]] const Flight& oldest() const { return flights_.front().flight; }
  // Waits for the next bytes of the oldest job, in order. Returns after how many bytes of the file
  // it ended; the job's end, if they were the last. Errors: those of the file.
  [[nodiscard]] Result<std::uint64_t> next();
  // Ends the oldest job: nothing writes to its place any more.
  void drop();

 private:
  struct Piece {
    std::uint64_t begin = 0;  // in the file; whole blocks
    std::uint64_t end = 0;
    std::int64_t result = 0;
    bool sent = false;
    bool ended = false;
  };
  struct Under {
    Flight flight;
    LoadFile* file = nullptr;
    std::shared_ptr<const DirectFile> direct;  // null: nothing is sent
    std::vector<Piece> pieces;
    std::size_t next = 0;       // the piece to wait for
    std::size_t next_sent = 0;  // the first piece that is not sent
    std::uint64_t reached = 0;  // the job's bytes before it have arrived
    std::uint64_t serial = 0;
  };

  void send();
  void take_one();
  [[nodiscard]] Result<void> settle(Under& under, const Piece& piece);
  [[nodiscard]] Result<void> read_to(Under& under, std::uint64_t end);

  ReadQueue& queue_;
  std::deque<Under> flights_;
  std::uint64_t nbytes_ = 0;     // of the jobs
  std::uint64_t under_way_ = 0;  // reads
  std::uint64_t serial_ = 0;
};

}  // namespace flatbed
