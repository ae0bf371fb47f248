#include "pieces.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

namespace flatbed::python {

namespace {

constexpr unsigned kMaxThreads = 8;
constexpr std::uint64_t kBytesPerThread = 4 << 20;  // less is not worth a thread
constexpr std::uint64_t kProgressEvery = 64 << 20;  // bytes

struct AlignedDelete {
  void operator()(std::byte* memory) const noexcept {
    ::operator delete(memory, std::align_val_t(4096));
  }
};
using Scratch = std::unique_ptr<std::byte, AlignedDelete>;

Scratch allocate_scratch(std::size_t nbytes) {
  return Scratch(static_cast<std::byte*>(
      ::operator new(std::max<std::size_t>(nbytes, 1), std::align_val_t(4096), std::nothrow)));
}

class Crew {
 public:
  Crew(const PieceOptions& options, const PieceWork& work) : options_(options), work_(work) {}

  Result<void> run() {
    std::vector<std::optional<Error>> errors(threads());
    {
      std::vector<std::jthread> others;
      for (std::size_t i = 1; i < errors.size(); ++i) {
        try {
          others.emplace_back([&, i] { take_pieces(errors[i], false); });
        } catch (const std::system_error&) {
          break;  // no more threads: those that there are do the work
        }
      }
      take_pieces(errors[0], true);
    }
    for (std::optional<Error>& error : errors) {
      if (error) return *std::move(error);
    }
    return {};
  }

 private:
  [[nodiscard]] std::size_t threads() const {
    const std::uint64_t worth = std::max<std::uint64_t>(options_.nbytes / kBytesPerThread, 1);
    const unsigned most = std::clamp(std::thread::hardware_concurrency(), 1U, kMaxThreads);
    return static_cast<std::size_t>(
        std::min<std::uint64_t>({worth, most, std::max<std::size_t>(options_.count, 1)}));
  }

  void take_pieces(std::optional<Error>& error, bool reports) {
    Result<void> done = take_pieces(reports);
    if (done) return;
    failed_ = true;
    error = std::move(done).error();
  }

  Result<void> take_pieces(bool reports) {
    const Scratch scratch = allocate_scratch(options_.scratch_nbytes);
    if (!scratch) return Error{ErrorCode::resource_exhausted, "out of memory"};
    std::uint64_t reported = 0;
    const std::uint64_t per_piece = options_.nbytes / std::max<std::size_t>(options_.count, 1);
    while (!failed_) {
      const std::size_t piece = next_++;
      if (piece >= options_.count) break;
      Result<void> done = work_(piece, {scratch.get(), options_.scratch_nbytes});
      if (!done) return done;
      const std::uint64_t nbytes = (piece + 1) * per_piece;
      if (!reports || !options_.progress || nbytes < reported + kProgressEvery) continue;
      reported = nbytes;
      done = options_.progress({nbytes, options_.nbytes});
      if (!done) return done;
    }
    return {};
  }

  const PieceOptions& options_;
  const PieceWork& work_;
  std::atomic<std::size_t> next_ = 0;
  std::atomic<bool> failed_ = false;
};

}  // namespace

Result<void> for_each_piece(const PieceOptions& options, const PieceWork& work) {
  return Crew(options, work).run();
}

}  // namespace flatbed::python
