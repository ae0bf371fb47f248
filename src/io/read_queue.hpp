// ReadQueue: reads past the page cache (O_DIRECT) of which many are under way at once, so that one
// thread keeps a disk busy. For one thread at a time.
//
// The engine is io_uring, through liburing, where flatbed is built with it and the system allows
// it. Where it does not, threads that pread() are the engine, and there is no queue.
//
// Memory is not registered with the ring: measured, that made no difference for reads of 1 MiB into
// pages of 2 MiB, and it counts against the limit on locked memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "flatbed/result.hpp"

namespace flatbed {

class ReadQueue {
 public:
  // The memory and the descriptor must stay until the read has ended.
  struct Read {
    int descriptor = -1;
    std::uint64_t offset = 0;
    std::span<std::byte> out;
    std::uint64_t tag = 0;
  };
  struct Ended {
    std::uint64_t tag = 0;
    std::int64_t result = 0;  // bytes, which may be fewer than wanted, or an errno below 0
  };

  ReadQueue() = default;
  ReadQueue(const ReadQueue&) = delete;
  ReadQueue& operator=(const ReadQueue&) = delete;
  // No read may be under way.
  virtual ~ReadQueue();

  // Begins a read, and returns whether it did: false if no more fit until one has ended.
  [[nodiscard]] virtual bool begin(const Read& read) = 0;
  // Waits until a read has ended. One must be under way.
  [[nodiscard]] virtual Ended wait() = 0;
};

// How many reads a queue has room for.
inline constexpr unsigned kQueuedReads = 64;

// Whether flatbed has the engine. Without it there is never a queue.
[[nodiscard]] bool built_with_read_queue() noexcept;

// Errors: permission_denied (forbidden), resource_exhausted, io_error (built without, or not in
// this kernel: before Linux 5.6, io_uring cannot read into plain memory).
[[nodiscard]] Result<std::unique_ptr<ReadQueue>> open_read_queue(unsigned reads = kQueuedReads);

}  // namespace flatbed
