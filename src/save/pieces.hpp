// Processes the bytes of many tensors with several threads. The bytes are cut into pieces, and each
// thread takes the next one until none are left. Small neighbours share a piece, and large tensors
// are cut between chunks: every piece holds whole chunks, and is one read or one write.
//
//   runs    |----------- 0 -----------|- 1 -|-- 2 --|--- 3 ---|  gap  |-- 4 --|
//   pieces  |    0    |    1    |  2  |       3     |    4    |       |   5   |
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "flatbed/progress.hpp"
#include "flatbed/result.hpp"
#include "flatbed/save.hpp"
#include "safetensors/seal.hpp"

namespace flatbed {

// Default size of a piece: large enough for the system calls, small enough to be hashed while it is
// in the processor's cache.
inline constexpr std::size_t kPieceBytes = 1 << 20;

// How many threads read pieces, and of what size at most.
struct PieceReading {
  unsigned threads = 2;
  std::size_t piece_nbytes = kPieceBytes;  // a multiple of the chunk size
  bool mends = true;                       // whether what does not match its CRC is read again
};

// The bytes of one tensor in one file.
struct Run {
  std::uint32_t tensor = 0;  // the caller's number
  std::uint32_t file = 0;
  std::uint64_t offset = 0;  // in the file
  std::uint64_t nbytes = 0;
};

// Consecutive bytes of one file, from `skip` bytes into run `run` on.
struct Piece {
  std::size_t run = 0;
  std::uint64_t skip = 0;  // a multiple of the chunk size
  std::uint32_t file = 0;
  std::uint64_t offset = 0;  // in the file
  std::size_t nbytes = 0;
};

// Hands out the pieces of some runs in order. next() is thread-safe; the rest is const.
class PieceQueue {
 public:
  // `runs` ascend by (file, offset) and do not overlap. Empty runs get no piece. A piece has at
  // most `piece_nbytes`, a multiple of the chunk size.
  PieceQueue(std::vector<Run> runs, std::size_t piece_nbytes);

  [[nodiscard]] std::optional<Piece> next();

  [[nodiscard]] const Run& run(std::size_t index) const { return runs_[index]; }
  [[nodiscard]] std::uint64_t nbytes() const noexcept { return nbytes_; }  // of all runs
  [[nodiscard]] std::size_t piece_nbytes() const noexcept;  // upper bound for any piece

 private:
  std::vector<Run> runs_;
  std::size_t most_;
  std::uint64_t nbytes_ = 0;
  std::mutex mutex_;
  std::size_t run_ = 0;     // where the next piece begins
  std::uint64_t skip_ = 0;  // within runs_[run_]
};

// Calls visit(run, skip, bytes) for the part of each tensor in a piece. `buffer` holds the piece;
// `bytes` is a part of it, and `skip` its offset in the tensor. Stops at the first error. `Byte` is
// std::byte or const.
template <typename Byte, typename Visit>
Result<void> for_each_part(const PieceQueue& queue, const Piece& piece, std::span<Byte> buffer,
                           Visit visit) {
  std::span<Byte> left = buffer.first(piece.nbytes);
  std::uint64_t skip = piece.skip;
  for (std::size_t i = piece.run; !left.empty(); ++i, skip = 0) {
    const Run& run = queue.run(i);
    const auto nbytes =
        static_cast<std::size_t>(std::min<std::uint64_t>(run.nbytes - skip, left.size()));
    if (nbytes != 0) FLATBED_TRY(visit(run, skip, left.first(nbytes)));
    left = left.subspan(nbytes);
  }
  return {};
}

// The same for each chunk: visit(run, number of the chunk within the tensor, bytes).
template <typename Byte, typename Visit>
Result<void> for_each_chunk(const PieceQueue& queue, const Piece& piece, std::span<Byte> buffer,
                            Visit visit) {
  return for_each_part(
      queue, piece, buffer,
      [&](const Run& run, std::uint64_t skip, std::span<Byte> part) -> Result<void> {
        for (std::size_t at = 0; at < part.size(); at += safetensors::kChunkBytes) {
          const std::size_t nbytes =
              std::min<std::size_t>(safetensors::kChunkBytes, part.size() - at);
          FLATBED_TRY(visit(run, (skip + at) / safetensors::kChunkBytes, part.subspan(at, nbytes)));
        }
        return {};
      });
}

// Runs the pieces of one or more queues and reports progress to the caller. Borrows its arguments.
// Not thread-safe; the calling thread becomes the first of each crew.
class PieceRunner {
 public:
  struct Options {
    const ProgressCallback& progress;  // called from the runner's thread
    const std::atomic<bool>* cancel = nullptr;
    std::uint64_t bytes_total = 0;  // of all queues, for the progress
  };
  // Fills, checks or writes one piece. `buffer` is the thread's own and has queue.piece_nbytes().
  using Work = std::function<Result<void>(const Piece& piece, std::span<std::byte> buffer)>;

  explicit PieceRunner(const Options& options) : options_(options) {}

  // Returns when every piece is done, or after the first error. Errors: those of `work` and of
  // `progress`, cancelled (also by the last call of `progress`).
  [[nodiscard]] Result<void> run(PieceQueue& queue, unsigned threads, const Work& work);

  // For work after the pieces, from time to time: reports the progress once more, and asks whether
  // to go on. Errors: those of `progress`, cancelled.
  [[nodiscard]] Result<void> check();
  [[nodiscard]] const std::atomic<bool>* cancel() const noexcept { return options_.cancel; }

 private:
  Result<void> take_pieces(PieceQueue& queue, const Work& work, bool reports);
  [[nodiscard]] Result<void> check_cancelled() const;
  [[nodiscard]] Result<void> report(bool last);

  Options options_;
  std::atomic<bool> failed_ = false;
  std::atomic<std::uint64_t> bytes_done_ = 0;
  std::uint64_t reported_ = 0;
};

}  // namespace flatbed
