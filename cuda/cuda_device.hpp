// CudaDevice: a GPU behind the seam of device.hpp, over a table of CUDA calls.
//
// What a load calls often, on reading threads of its own, calls CUDA directly, having made the GPU
// the thread's current device: check, copy, fence, done. What may be called from anywhere works on
// a thread of its own: creation, destruction, stage, unstage, and all of DeviceMemory. forget and
// native_event call nothing. No call is made under a lock.
//
// Owns its events and, where the engine has not given one, its stream. Thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cuda_api.hpp"
#include "cuda_handle.hpp"
#include "flatbed/cuda.hpp"
#include "flatbed/device.hpp"
#include "pinned_memory.hpp"
#include "ticket_table.hpp"

namespace flatbed::cuda {

// Constants, smaller in tests.
struct CudaDeviceLimits {
  // Page-locked at a time; the same for all devices that share staging memory.
  std::size_t segment_nbytes = std::size_t{256} << 20;
  std::size_t bounce_nbytes = std::size_t{8} << 20;  // that read_back() goes through
  std::chrono::milliseconds read_back_timeout{60'000};
};

// cuda_device() and cuda_devices() over a table, which must outlive what is made.
[[nodiscard]] Result<std::unique_ptr<Device>> make_cuda_device(const CudaApi& api, int ordinal,
                                                               const CudaDeviceOptions& options,
                                                               const CudaDeviceLimits& limits = {});
[[nodiscard]] Result<std::vector<CudaDeviceInfo>> make_cuda_devices(const CudaApi& api);

class CudaDevice final : public Device, public DeviceMemory {
 public:
  // Makes no CUDA call: make_cuda_device() does.
  CudaDevice(const CudaApi& api, int ordinal, const CudaDeviceLimits& limits);
  ~CudaDevice() override;

  [[nodiscard]] std::string_view name() const noexcept override { return name_; }
  [[nodiscard]] bool is_host() const noexcept override { return false; }
  [[nodiscard]] Result<void> check(const std::byte* data, std::uint64_t nbytes) override;
  [[nodiscard]] Result<std::byte*> stage(std::uint64_t nbytes) override;
  void unstage(std::byte* memory, std::uint64_t nbytes) noexcept override;
  [[nodiscard]] Result<Ticket> copy(std::span<const CopyPiece> pieces) override;
  [[nodiscard]] Result<Ticket> fence() override;
  [[nodiscard]] Result<bool> done(Ticket ticket) override;
  void forget(Ticket ticket) noexcept override;
  [[nodiscard]] void* native_event(Ticket ticket) noexcept override;
  [[nodiscard]] DeviceMemory* memory() noexcept override { return this; }
  [[nodiscard]] Result<std::byte*> allocate(std::uint64_t nbytes) override;
  void release(std::byte* memory, std::uint64_t nbytes) noexcept override;
  [[nodiscard]] Result<void> read_back(const std::byte* from, std::span<std::byte> out) override;

 private:
  friend Result<std::unique_ptr<Device>> make_cuda_device(const CudaApi&, int,
                                                          const CudaDeviceOptions&,
                                                          const CudaDeviceLimits&);

  // What is destroyed on a thread of its own, or not at all.
  struct Handles {
    Stream own_stream;
    TicketTable tickets;
  };

  [[nodiscard]] Error error(cudaError_t status, std::string_view call) const;
  [[nodiscard]] Result<void> make_current() const;
  [[nodiscard]] Result<void> open_stream(const CudaDeviceOptions& options);
  [[nodiscard]] Result<void> check_byte(std::uintptr_t address, std::string_view which) const;
  [[nodiscard]] Result<void> queue(CopyPiece piece);
  [[nodiscard]] Result<void> queue_row(const CopyPiece& piece);
  [[nodiscard]] Result<void> queue_rows(const CopyPiece& piece, std::uint64_t rows);
  [[nodiscard]] Result<void> record(TicketTable::Slot slot);
  [[nodiscard]] Result<bool> is_complete(cudaEvent_t event) const;
  [[nodiscard]] Result<void> read_chunks(const std::byte* from, std::span<std::byte> out,
                                         std::span<std::byte> bounce);
  [[nodiscard]] Result<void> wait_for_all();

  const CudaApi& api_;
  const int ordinal_;
  const std::string name_;
  const CudaDeviceLimits limits_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<Handles> handles_;
  PinnedMemory pinned_;
};

}  // namespace flatbed::cuda
