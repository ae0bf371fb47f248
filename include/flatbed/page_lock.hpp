// PageLock: memory that stays in RAM as long as the lock lives. Checkpoint::lock() makes them for
// the bytes of a view.
//
// Owns the lock, not the memory; move-only. Locks may be made and ended by any thread. The kernel
// locks whole pages and does not count: where two locks cover one page, it is unlocked when the
// first of them ends.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include "flatbed/export.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

class FLATBED_EXPORT PageLock {
 public:
  // Reads the pages of `bytes` into memory and keeps them there (mlock). `keeps_alive` is what owns
  // the memory; the lock holds it until it ends. Empty `bytes` need nothing. Errors:
  // resource_exhausted where the limit RLIMIT_MEMLOCK of the process is reached.
  [[nodiscard]] static Result<PageLock> lock(std::span<const std::byte> bytes,
                                             std::shared_ptr<const void> keeps_alive = nullptr);

  PageLock() = default;  // locks nothing
  PageLock(PageLock&& other) noexcept
      : bytes_(std::exchange(other.bytes_, {})), keeps_alive_(std::move(other.keeps_alive_)) {}
  PageLock& operator=(PageLock&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(keeps_alive_, other.keeps_alive_);
    return *this;
  }
  ~PageLock();

  // What is locked; at most a page more at both ends.
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }

 private:
  PageLock(std::span<const std::byte> bytes, std::shared_ptr<const void> keeps_alive)
      : bytes_(bytes), keeps_alive_(std::move(keeps_alive)) {}

  std::span<const std::byte> bytes_;
  std::shared_ptr<const void> keeps_alive_;
};

}  // namespace flatbed
