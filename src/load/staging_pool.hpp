// StagingSlots: the slots of a StagingPool, as a load uses them. Borrows the pool; thread-safe.
//
// A slot is free, taken by one load, or abandoned (a failed device may still be reading it). A load
// returns a slot only when no copy from it is under way, so a free slot may be written at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "flatbed/device.hpp"

namespace flatbed {

class StagingSlots {
 public:
  explicit StagingSlots(StagingPool& pool) : pool_(&pool) {}

  // Returns a free slot, if there is one; does not wait.
  [[nodiscard]] std::optional<std::uint32_t> try_take() const;
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
