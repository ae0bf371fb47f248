// host_device(): this process's memory as a Device. Its copies are done when copy() returns.
// Stateless, thread-safe.
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>

#include "base/str_cat.hpp"
#include "flatbed/device.hpp"
#include "io/large_allocator.hpp"
#include "io/past_cache.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kPage = 4096;

class HostDevice final : public Device, public DeviceMemory {
 public:
  [[nodiscard]] std::string_view name() const noexcept override { return "host"; }
  [[nodiscard]] bool is_host() const noexcept override { return true; }

  // Only the owner of memory knows whether it may be written, so nothing more is checked.
  Result<void> check(const std::byte* data, std::uint64_t nbytes) override {
    if (data != nullptr || nbytes == 0) return {};
    return make_error(ErrorCode::destination_invalid, "host: ", nbytes, " bytes at null");
  }

  Result<std::byte*> stage(std::uint64_t nbytes) override {
    FLATBED_ASSIGN(std::byte* const memory, allocate(nbytes));
    for (std::uint64_t at = 0; at < nbytes; at += kPage) memory[at] = std::byte{0};
    return memory;
  }
  void unstage(std::byte* memory, std::uint64_t /*nbytes*/) noexcept override {
    free_large(memory);
  }

  Result<Ticket> copy(std::span<const CopyPiece> pieces) override {
    for (const CopyPiece& piece : pieces) {
      for (std::uint64_t row = 0; row < piece.rows; ++row) {
        copy_past_cache(piece.to + row * piece.to_pitch, piece.from + row * piece.from_pitch,
                        piece.nbytes);
      }
    }
    finish_past_cache();  // before a thread is told of them
    return Ticket{0};
  }
  Result<Ticket> fence() override { return Ticket{0}; }
  Result<bool> done(Ticket /*ticket*/) override { return true; }
  void forget(Ticket /*ticket*/) noexcept override {}
  [[nodiscard]] void* native_event(Ticket /*ticket*/) noexcept override { return nullptr; }

  [[nodiscard]] DeviceMemory* memory() noexcept override { return this; }
  Result<std::byte*> allocate(std::uint64_t nbytes) override {
    LargeBlock block = try_allocate_large(static_cast<std::size_t>(nbytes));
    if (block) return block.release();
    return make_error(ErrorCode::resource_exhausted, "host: no memory for ", nbytes, " bytes");
  }
  void release(std::byte* memory, std::uint64_t /*nbytes*/) noexcept override {
    free_large(memory);
  }

  Result<void> read_back(const std::byte* from, std::span<std::byte> out) override {
    if (!out.empty()) std::memcpy(out.data(), from, out.size());
    return {};
  }
};

}  // namespace

Device::~Device() = default;

Result<bool> Device::wait(Ticket ticket, std::chrono::nanoseconds most) {
  using std::chrono::microseconds;
  constexpr std::chrono::nanoseconds kLongest = microseconds(128);
  std::chrono::nanoseconds pause = microseconds(4);
  const auto begin = std::chrono::steady_clock::now();
  while (true) {
    FLATBED_ASSIGN(const bool is_done, done(ticket));
    const auto left = most - (std::chrono::steady_clock::now() - begin);
    if (is_done || left <= left.zero()) return is_done;
    const timespec time{0, static_cast<long>(std::min(pause, left).count())};
    ::nanosleep(&time, nullptr);
    pause = std::min(2 * pause, kLongest);
  }
}

std::unique_ptr<Device> host_device() { return std::make_unique<HostDevice>(); }

Result<DeviceBuffer> DeviceBuffer::allocate(Device& device, std::uint64_t nbytes) {
  DeviceMemory* const memory = device.memory();
  if (memory == nullptr) {
    return make_error(ErrorCode::invalid_argument, device.name(),
                      ": the device allocates no memory; load into memory of the engine's own");
  }
  FLATBED_ASSIGN(std::byte* const data, memory->allocate(nbytes));
  return DeviceBuffer(*memory, data, nbytes);
}

}  // namespace flatbed
