#include "save/pieces.hpp"

#include <utility>

#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "io/large_allocator.hpp"
#include "io/thread_pool.hpp"

namespace flatbed {

namespace {

// Between two calls of the caller's progress callback.
constexpr std::uint64_t kReportBytes = 8 << 20;

}  // namespace

PieceQueue::PieceQueue(std::vector<Run> runs, std::size_t piece_nbytes)
    : runs_(std::move(runs)), most_(piece_nbytes) {
  // Tensors that few bytes expand to may have more than 2^64 together.
  for (const Run& run : runs_) nbytes_ = checked_add(nbytes_, run.nbytes).value_or(UINT64_MAX);
}

std::size_t PieceQueue::piece_nbytes() const noexcept {
  return static_cast<std::size_t>(std::min<std::uint64_t>(most_, nbytes_));
}

std::optional<Piece> PieceQueue::next() {
  const std::lock_guard lock(mutex_);
  while (run_ < runs_.size() && skip_ == runs_[run_].nbytes) ++run_, skip_ = 0;
  if (run_ == runs_.size()) return std::nullopt;
  Piece piece{run_, skip_, runs_[run_].file, runs_[run_].offset + skip_, 0};
  while (run_ < runs_.size()) {
    const Run& run = runs_[run_];
    const bool follows =
        run.file == piece.file && run.offset + skip_ == piece.offset + piece.nbytes;
    if (!follows) break;
    const std::uint64_t left = run.nbytes - skip_;
    const std::size_t room = most_ - piece.nbytes;
    if (left >
        room) {  // as many whole chunks as fit; a tensor that fits the next piece stays whole
      const std::size_t part = piece.nbytes == 0 ? room : 0;
      piece.nbytes += part;
      skip_ += part;
      break;
    }
    piece.nbytes += static_cast<std::size_t>(left);
    ++run_;
    skip_ = 0;
  }
  return piece;
}

Result<void> PieceRunner::run(PieceQueue& queue, unsigned threads, const Work& work) {
  FLATBED_TRY(run_parallel(threads, [&](unsigned number) -> Result<void> {
    Result<void> result = take_pieces(queue, work, number == 0);
    if (!result) failed_ = true;
    return result;
  }));
  FLATBED_TRY(report(true));
  return check_cancelled();
}

Result<void> PieceRunner::take_pieces(PieceQueue& queue, const Work& work, bool reports) {
  const std::size_t nbytes = queue.piece_nbytes();
  const LargeBlock buffer = try_allocate_large(nbytes);
  if (!buffer)
    return make_error(ErrorCode::resource_exhausted, "out of memory for ", nbytes, " bytes");
  while (!failed_) {
    FLATBED_TRY(check_cancelled());
    const std::optional<Piece> piece = queue.next();
    if (!piece) break;
    FLATBED_TRY(work(*piece, {buffer.get(), nbytes}));
    bytes_done_ += piece->nbytes;
    if (reports) FLATBED_TRY(report(false));
  }
  return {};
}

Result<void> PieceRunner::check() {
  FLATBED_TRY(check_cancelled());
  if (!options_.progress) return {};
  FLATBED_TRY(options_.progress({bytes_done_, options_.bytes_total}));
  return check_cancelled();
}

Result<void> PieceRunner::check_cancelled() const {
  if (options_.cancel == nullptr || !*options_.cancel) return {};
  return make_error(ErrorCode::cancelled, "interrupted at ", size_text(bytes_done_.load()), " of ",
                    size_text(options_.bytes_total));
}

Result<void> PieceRunner::report(bool last) {
  const std::uint64_t done = bytes_done_;
  if (!options_.progress || done == reported_) return {};
  if (!last && done - reported_ < kReportBytes) return {};
  reported_ = done;
  return options_.progress({done, options_.bytes_total});
}

}  // namespace flatbed
