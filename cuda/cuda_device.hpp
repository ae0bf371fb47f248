// CudaDevice: a GPU as a Device, over a table of CUDA calls.
//
// Functions that a load calls often, on its own threads (check, copy, fence, done, wait), call CUDA
// directly. Functions that may be called from any thread (creation, destruction, all of
// DeviceMemory) work on the device's thread, and stage and unstage, which take long, on one of
// their own. Those that order a load and the engine's streams do the same, except for the default
// stream of the calling thread. forget and native_event make no calls. No call is made under a
// lock.
//
// Owns its thread, its events and, unless the engine gave one, its stream. Thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cuda_api.hpp"
#include "cuda_handle.hpp"
#include "device_thread.hpp"
#include "flatbed/cuda.hpp"
#include "flatbed/device.hpp"
#include "pinned_memory.hpp"
#include "ticket_table.hpp"
#include "wake_ups.hpp"

namespace flatbed::cuda {

// Constants, which tests make smaller.
struct CudaDeviceLimits {
  // Bytes page-locked at a time; the same for all devices that share staging memory.
  std::size_t segment_nbytes = std::size_t{256} << 20;
  std::size_t bounce_nbytes = std::size_t{8} << 20;  // size of the buffer that read_back() uses
  std::chrono::milliseconds read_back_timeout{60'000};
  // How long a device that ends waits for functions that CUDA has yet to call.
  std::chrono::milliseconds wake_timeout{1'000};
  std::string sysfs = "/sys";
};

// cuda_device() and cuda_devices() over a table. The device shares in it; where a reference is
// given, it must outlive the device.
[[nodiscard]] Result<std::unique_ptr<Device>> make_cuda_device(std::shared_ptr<const CudaApi> api,
                                                               int ordinal,
                                                               const CudaDeviceOptions& options,
                                                               const CudaDeviceLimits& limits = {});
[[nodiscard]] Result<std::unique_ptr<Device>> make_cuda_device(const CudaApi& api, int ordinal,
                                                               const CudaDeviceOptions& options,
                                                               const CudaDeviceLimits& limits = {});
[[nodiscard]] Result<std::vector<CudaDeviceInfo>> make_cuda_devices(
    const CudaApi& api, FreeMemory free_memory = FreeMemory::skip,
    const std::string& sysfs = "/sys");

class CudaDevice final : public Device, public DeviceMemory {
 public:
  // Makes no CUDA call: make_cuda_device() does.
  CudaDevice(std::shared_ptr<const CudaApi> api, int ordinal, const CudaDeviceLimits& limits);
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
  [[nodiscard]] Result<bool> wait(Ticket ticket, std::chrono::nanoseconds most) override;
  [[nodiscard]] int numa_node() const noexcept override { return numa_node_; }
  [[nodiscard]] std::uint64_t link_bytes_per_second() const noexcept override { return link_; }
  [[nodiscard]] Result<void> enter_thread() override;
  [[nodiscard]] bool host_can_write(const std::byte* data, std::uint64_t nbytes) override;
  [[nodiscard]] Result<void> order_after_engine() override;
  [[nodiscard]] Result<void> order_before_engine(Ticket ticket) override;
  [[nodiscard]] DeviceMemory* memory() noexcept override { return this; }
  [[nodiscard]] Result<std::byte*> allocate(std::uint64_t nbytes) override;
  void release(std::byte* memory, std::uint64_t nbytes) noexcept override;
  [[nodiscard]] Result<void> read_back(const std::byte* from, std::span<std::byte> out) override;

 private:
  friend Result<std::unique_ptr<Device>> make_cuda_device(std::shared_ptr<const CudaApi>, int,
                                                          const CudaDeviceOptions&,
                                                          const CudaDeviceLimits&);

  // The parts that are destroyed on the device's thread, or not at all.
  struct Handles {
    explicit Handles(const CudaApi& api) : wake_ups(api) {}
    Stream own_stream;
    Event probe;  // recorded and never waited for
    TicketTable tickets;
    WakeUps wake_ups;
  };
  // Copies of contiguous bytes, in CUDA's form.
  struct Batch {
    std::vector<void*> to;
    std::vector<const void*> from;
    std::vector<std::size_t> nbytes;
  };
  // A stream of the engine's, and what CudaDeviceOptions calls it.
  struct Ordered {
    cudaStream_t stream = nullptr;
    std::string_view option;
  };

  [[nodiscard]] Error error(cudaError_t status, std::string_view call) const;
  [[nodiscard]] Result<void> make_current() const;
  [[nodiscard]] Result<void> open(const CudaDeviceOptions& options);
  [[nodiscard]] Result<void> open_streams();
  void find_place();
  [[nodiscard]] Result<void> take_stream(const std::optional<EngineStream>& given,
                                         std::string_view option, Ordered& out) const;
  [[nodiscard]] Result<void> probe(const Ordered& ordered) const;
  [[nodiscard]] Result<void> order(cudaStream_t stream, cudaEvent_t event) const;
  template <typename Work>
  [[nodiscard]] Result<void> for_stream(const Ordered& ordered, const Work& work);
  [[nodiscard]] Result<void> check_byte(std::uintptr_t address, std::string_view which) const;
  [[nodiscard]] bool is_of_host(std::uintptr_t address) const;
  [[nodiscard]] Result<void> queue(CopyPiece piece, Batch& batch);
  void add_row(const CopyPiece& piece, Batch& batch) const;
  [[nodiscard]] Result<void> queue_rows(const CopyPiece& piece, std::uint64_t rows);
  [[nodiscard]] Result<void> submit(Batch& batch);
  [[nodiscard]] Result<bool> submit_at_once(const Batch& batch);
  [[nodiscard]] Result<void> create_event(TicketTable::Slot& slot);
  [[nodiscard]] Result<void> record(TicketTable::Slot slot);
  [[nodiscard]] Result<bool> is_complete(cudaEvent_t event) const;
  [[nodiscard]] Result<std::byte*> take_bounce();
  void keep_bounce(std::byte* bounce) noexcept;
  [[nodiscard]] Result<void> read_chunks(const std::byte* from, std::span<std::byte> out,
                                         std::span<std::byte> bounce);
  [[nodiscard]] Result<void> wait_for(Ticket ticket);
  [[nodiscard]] Result<void> wait_for_all();

  const std::shared_ptr<const CudaApi> owned_api_;
  const CudaApi& api_;
  const int ordinal_;
  const std::string name_;
  const CudaDeviceLimits limits_;
  DeviceThread thread_;
  bool uses_host_pages_ = false;  // the GPU uses the host's page tables: it shares all its memory
  cudaStream_t stream_ = nullptr;
  Ordered copies_;  // stream_, if it is the engine's
  Ordered order_after_;
  Ordered order_before_;
  std::unique_ptr<Handles> handles_;
  PinnedMemory pinned_;
  std::once_flag wake_ups_open_;  // with the first wait
  int numa_node_ = -1;
  std::uint64_t link_ = 0;
  std::atomic<bool> no_batches_ = false;  // CUDA has said that it supports none
  std::mutex bounce_mutex_;               // guards idle_bounce_
  std::byte* idle_bounce_ = nullptr;      // of read_back(), which keeps one for the next time
};

}  // namespace flatbed::cuda
