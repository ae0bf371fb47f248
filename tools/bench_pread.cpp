#include "bench_pread.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <future>

#include "format_text.hpp"
#include "interrupt.hpp"

namespace flatbed::tool {
namespace {

constexpr std::uint64_t kPieceNbytes = std::uint64_t{4} << 20;

}  // namespace

Result<PreadLoop> PreadLoop::open(const Checkpoint& checkpoint) {
  PreadLoop loop;
  for (const FileInfo& file : checkpoint.files()) {
    const int descriptor = ::open(file.path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
      return Error{ErrorCode::io_error,
                   fmt::format("{}: cannot open: {}", path_text(file.path), std::strerror(errno))};
    }
    loop.files_.push_back(descriptor);
  }
  return loop;
}

PreadLoop::~PreadLoop() {
  for (const int descriptor : files_) ::close(descriptor);
}

void PreadLoop::add(const TensorInfo& tensor, std::byte* to) {
  for (std::uint64_t at = 0; at < tensor.nbytes; at += kPieceNbytes) {
    pieces_.push_back({files_[tensor.where.file], tensor.where.offset + at,
                       std::min(kPieceNbytes, tensor.nbytes - at), to + at});
  }
}

Result<void> PreadLoop::run(unsigned threads) const {
  std::atomic<std::size_t> next{0};
  std::atomic<bool> stop{false};
  const auto work = [&]() -> Result<void> {
    for (std::size_t i = next++; i < pieces_.size() && !stop.load(); i = next++) {
      if (interrupted()) return Error{ErrorCode::cancelled, "interrupted"};
      Result<void> done = read_piece(pieces_[i]);
      if (!done) {
        stop = true;
        return done;
      }
    }
    return {};
  };
  std::vector<std::future<Result<void>>> running;
  for (unsigned i = 1; i < threads; ++i) running.push_back(std::async(std::launch::async, work));
  Result<void> first = work();
  for (std::future<Result<void>>& worker : running) {
    Result<void> done = worker.get();
    if (first && !done) first = std::move(done);
  }
  return first;
}

Result<void> PreadLoop::read_piece(const Piece& piece) {
  for (std::uint64_t done = 0; done < piece.nbytes;) {
    const ssize_t got = ::pread(piece.file, piece.to + done, piece.nbytes - done,
                                static_cast<off_t>(piece.offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return Error{ErrorCode::io_error, fmt::format("cannot read: {}", std::strerror(errno))};
    }
    if (got == 0) return Error{ErrorCode::file_changed, "the file shrank while it was read"};
    done += static_cast<std::uint64_t>(got);
  }
  return {};
}

}  // namespace flatbed::tool
