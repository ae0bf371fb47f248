// SharedStaging: memory that ranks of one node share, as the staging memory of one load on the
// host. Borrows the memory, which others may read for longer than the load lasts. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/str_cat.hpp"
#include "flatbed/device.hpp"

namespace flatbed {

class SharedStaging final : public Device {
 public:
  // `memory` begins at a page.
  explicit SharedStaging(std::span<std::byte> memory) : memory_(memory) {}

  [[nodiscard]] std::string_view name() const noexcept override { return "shared memory"; }
  [[nodiscard]] bool is_host() const noexcept override { return false; }
  Result<void> check(const std::byte* data, std::uint64_t nbytes) override {
    return host_->check(data, nbytes);
  }
  // Hands out the memory from its beginning; a pool asks for no more than there is.
  Result<std::byte*> stage(std::uint64_t nbytes) override {
    const std::uint64_t at = used_.fetch_add(nbytes);
    if (at <= memory_.size() && nbytes <= memory_.size() - at) return memory_.data() + at;
    return make_error(ErrorCode::resource_exhausted, "all ", memory_.size(),
                      " bytes of shared memory are in use");
  }
  void unstage(std::byte* /*memory*/, std::uint64_t /*nbytes*/) noexcept override {}
  Result<Ticket> copy(std::span<const CopyPiece> pieces) override { return host_->copy(pieces); }
  Result<Ticket> fence() override { return host_->fence(); }
  Result<bool> done(Ticket ticket) override { return host_->done(ticket); }
  void forget(Ticket ticket) noexcept override { host_->forget(ticket); }
  [[nodiscard]] void* native_event(Ticket /*ticket*/) noexcept override { return nullptr; }

 private:
  std::span<std::byte> memory_;
  std::atomic<std::uint64_t> used_ = 0;
  std::unique_ptr<Device> host_ = host_device();
};

}  // namespace flatbed
