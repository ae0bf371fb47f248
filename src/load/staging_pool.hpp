// StagingSlots: the slots of a StagingPool, as a load uses them. Borrows the pool; thread-safe.
//
// A slot is free, taken by one load, or abandoned (a failed device may still be reading it). A load
// returns a slot only when no copy from it is under way, so a free slot may be written at once.
//
// Touching memory and page-locking it takes as long as reading into it, so it is done block by
// block: by several threads at once, and in a load's own pool by its reading threads, each when it
// finds no free slot. The first slots are in use while the others are made. The thread that makes a
// block is the first that touches it, which decides about its NUMA node.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "flatbed/device.hpp"

namespace flatbed {

class StagingSlots {
 public:
  explicit StagingSlots(StagingPool& pool) : pool_(&pool) {}

  // A pool without memory yet. Errors: those of check_staging().
  [[nodiscard]] static Result<std::unique_ptr<StagingPool>> unstaged_pool(
      Device& device, const StagingOptions& options);
  // Makes the next block, and its slots free. Returns false if there is no block left to make.
  // Errors: those of Device::stage(), after which there is none left.
  [[nodiscard]] Result<bool> stage_more() const;

  // Returns a free slot, if there is one; does not wait.
  [[nodiscard]] std::optional<std::uint32_t> try_take() const;
  // Returns when a slot is free or `most` is over. Another thread may take the slot first.
  void wait(std::chrono::nanoseconds most) const;
  void give_back(std::uint32_t slot) const;
  void abandon(std::uint32_t slot) const;
  // Whether no slot will ever be free again.
  [[nodiscard]] bool all_abandoned() const;
  [[nodiscard]] std::byte* data(std::uint32_t slot) const;

 private:
  StagingPool* pool_;
};

// The default size of a slot: large for the disk's sake, but small enough that every thread can
// fill one while another is copied.
[[nodiscard]] std::uint64_t fitting_slot_nbytes(std::uint64_t staging_nbytes,
                                                unsigned threads) noexcept;

// Errors: budget_too_small, invalid_argument.
[[nodiscard]] Result<void> check_staging(const StagingOptions& options);

}  // namespace flatbed
