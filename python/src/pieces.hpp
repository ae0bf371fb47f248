// Crew: threads that do work which is cut into pieces, and are kept for the next work. Knows
// nothing of Python: call it without the GIL.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>

#include "flatbed/progress.hpp"
#include "flatbed/result.hpp"

namespace flatbed::python {

struct PieceOptions {
  std::size_t count = 0;
  std::uint64_t nbytes = 0;          // of all pieces: little work takes one thread
  std::size_t scratch_nbytes = 0;    // for each thread
  const ProgressCallback& progress;  // called on the calling thread, now and then
};

// Does the piece of this number. `scratch` is the thread's own.
using PieceWork = std::function<Result<void>(std::size_t piece, std::span<std::byte> scratch)>;

// Thread-safe; works of several threads share it. Starts its threads when work is worth them, at
// most 7, and joins them in its destructor. Survives fork(): the child's first work starts others.
class Crew {
 public:
  Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;
  ~Crew();

  // The calling thread takes part. Returns when all pieces are done, or the first error, after
  // which no piece is begun. Errors: those of `work` and of `progress`; resource_exhausted.
  [[nodiscard]] Result<void> for_each_piece(const PieceOptions& options, const PieceWork& work);

 private:
  class Threads;
  Threads& threads();

  std::mutex mutex_;
  std::unique_ptr<Threads> threads_;  // those of the process that made them
};

}  // namespace flatbed::python
