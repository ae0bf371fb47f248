// LoadHooks: what a load needs from the world besides its device, so that tests can replace it by a
// virtual clock and a model of a disk. The default is the real world.
//
// All members may be called from all reading threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "flatbed/load.hpp"
#include "io/read_queue.hpp"

namespace flatbed {

struct LoadHooks {
  std::function<std::uint64_t()> now_ns;        // a monotonic clock
  std::function<void(std::uint64_t)> sleep_ns;  // blocks the calling thread
  // Replaces reading: fills (or pretends to fill) `out` from a file. Empty: files are read.
  std::function<Result<void>(std::uint32_t file, std::uint64_t offset, std::span<std::byte> out)>
      read;
  // Replaces XXH3-64. Empty: xxh3().
  std::function<std::uint64_t(std::span<const std::byte>)> hash;
  // Opens a queue of reads past the page cache, before any thread begins; an error means that
  // threads wait for their reads. Empty: the same.
  std::function<Result<std::unique_ptr<ReadQueue>>()> queue;
  // Called by each reading thread when it begins and before it ends.
  std::function<void()> enter;
  std::function<void()> leave;
};

// load() with the caller's hooks.
[[nodiscard]] Result<LoadReport> load_with_hooks(const LoadPlan& plan, const LoadOptions& options,
                                                 const LoadHooks& hooks);

}  // namespace flatbed
