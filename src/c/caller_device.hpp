// CallerDevice: a device that a C caller implements. Owns the caller's context, which it closes.
// Thread-safe as the caller's functions are.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "c/arguments.hpp"
#include "flatbed/device.hpp"

namespace flatbed::c {

class CallerDevice final : public Device, public DeviceMemory {
 public:
  [[nodiscard]] static Result<std::unique_ptr<CallerDevice>> make(const flatbed_device_ops* given);

  CallerDevice(const flatbed_device_ops& ops, std::string name)
      : ops_(ops), name_(std::move(name)) {}
  ~CallerDevice() override {
    if (ops_.close != nullptr) ops_.close(ops_.context);
  }

  [[nodiscard]] std::string_view name() const noexcept override { return name_; }
  [[nodiscard]] bool is_host() const noexcept override { return ops_.is_host == 1; }
  Result<void> check(const std::byte* data, std::uint64_t nbytes) override;
  Result<std::byte*> stage(std::uint64_t nbytes) override;
  void unstage(std::byte* memory, std::uint64_t nbytes) noexcept override;
  Result<Ticket> copy(std::span<const CopyPiece> pieces) override;
  Result<Ticket> fence() override;
  Result<bool> done(Ticket ticket) override;
  void forget(Ticket ticket) noexcept override;
  [[nodiscard]] void* native_event(Ticket ticket) noexcept override;
  Result<void> enter_thread() override;
  [[nodiscard]] bool host_can_write(const std::byte* data, std::uint64_t nbytes) override;
  Result<void> order_after_engine() override;
  Result<void> order_before_engine(Ticket ticket) override;
  Result<bool> wait(Ticket ticket, std::chrono::nanoseconds most) override;
  [[nodiscard]] int numa_node() const noexcept override;
  [[nodiscard]] std::uint64_t link_bytes_per_second() const noexcept override {
    return ops_.link_bytes_per_second;
  }

  [[nodiscard]] DeviceMemory* memory() noexcept override;
  Result<std::byte*> allocate(std::uint64_t nbytes) override;
  void release(std::byte* memory, std::uint64_t nbytes) noexcept override;
  Result<void> read_back(const std::byte* from, std::span<std::byte> out) override;

 private:
  // What a function of the caller's returned, as a Result.
  [[nodiscard]] Result<void> answered(std::int32_t code, std::string_view function,
                                      const flatbed_error& said) const;

  flatbed_device_ops ops_;
  std::string name_;
};

}  // namespace flatbed::c
