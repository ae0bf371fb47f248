// StagingSlots: the slots of a StagingPool as a load takes them. Borrows the pool; thread-safe.
//
// A slot is free, or taken by one load, or abandoned: a device that may still be reading it has
// failed. Who takes a slot gives it back when no copy from it is under way, so that a free slot
// may be written at once, whoever had it before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "flatbed/device.hpp"

namespace flatbed {

class StagingSlots {
 public:
  explicit StagingSlots(StagingPool& pool) : pool_(&pool) {}

  // A free slot, if there is one; does not wait.
  [[nodiscard]] std::optional<std::uint32_t> try_take() const;
  void give_back(std::uint32_t slot) const;
  void abandon(std::uint32_t slot) const;
  // No slot will ever be free again.
  [[nodiscard]] bool all_abandoned() const;
  [[nodiscard]] std::byte* data(std::uint32_t slot) const;

 private:
  StagingPool* pool_;
};

// Bytes of a slot where the caller of load() names none: large ones for the disk's sake, but enough
// of them that every thread can fill one while another is copied.
[[nodiscard]] std::uint64_t fitting_slot_nbytes(std::uint64_t staging_nbytes,
                                                unsigned threads) noexcept;

// Errors: budget_too_small, invalid_argument.
[[nodiscard]] Result<void> check_staging(const StagingOptions& options);

}  // namespace flatbed
