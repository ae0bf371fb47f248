// LoadHooks: what a load needs from the world besides its device, so that tests can replace it by a
// virtual clock and a model of a disk. What is empty is the real world.
//
// All members may be called from all reading threads at once.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "flatbed/load.hpp"
#include "io/read_queue.hpp"

namespace flatbed {

struct LoadHooks {
  std::function<std::uint64_t()> now_ns;  // a monotonic clock; never empty
  // Replaces Device::wait().
  std::function<Result<bool>(Device& device, Ticket ticket, std::chrono::nanoseconds most)> wait;
  // Replaces waiting, for about so long at most, until a slot of the pool may be free.
  std::function<void(std::chrono::nanoseconds most)> wait_for_slot;
  // Replaces reading: fills (or pretends to fill) `out` from a file.
  std::function<Result<void>(std::uint32_t file, std::uint64_t offset, std::span<std::byte> out)>
      read;
  // Replaces XXH3-64.
  std::function<std::uint64_t(std::span<const std::byte>)> hash;
  // Opens a queue of reads past the page cache, before any thread begins; an error means that
  // threads wait for their reads. Empty: the same.
  std::function<Result<std::unique_ptr<ReadQueue>>()> queue;
  // Whether verified bytes reach host memory by way of a buffer in the cache. Empty: where it pays.
  std::optional<bool> bounce;
  // Whether such bytes are read where the page cache has them (io/leased_file.hpp), if the system
  // lets it. Empty: with `bounce`, as long as it pays.
  std::optional<bool> lease;
  // Whether chunks of far files are checked by the thread that receives them. Empty: where it pays.
  std::optional<bool> check_on_arrival;
  std::filesystem::path sysfs = "/sys";  // lists the processors of NUMA nodes
  // Called by each reading thread when it begins and before it ends.
  std::function<void()> enter;
  std::function<void()> leave;
};

// load() with the caller's hooks.
[[nodiscard]] Result<LoadReport> load_with_hooks(const LoadPlan& plan, const LoadOptions& options,
                                                 const LoadHooks& hooks);

}  // namespace flatbed
