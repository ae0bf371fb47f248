// Device: the destination of a load. Engines and tests may implement it. host_device() is the
// host's memory; cuda_device() (cuda.hpp) is a GPU's.
//
// A device does four things for a load: it tells whether memory is its own (check), provides memory
// to copy from (stage), queues copies out of that memory (copy, fence), and tells when they are
// done (done, wait). Copies complete in order: a ticket is done when its own copies and all earlier
// ones of this device are.
//
// Every member may be called from several threads at once. A device must outlive the plans, pools
// and buffers that refer to it.
//
// StagingPool: the bounded memory through which bytes pass on their way to a device. One pool may
// serve several loads at once; together they never use more than it has.
// DeviceMemory: allocates memory of a device, if the device offers that.
// DeviceBuffer: owned memory of a device.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "flatbed/export.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

// `rows` rows of `nbytes` each, from staging memory to the device's. A pitch is the distance in
// bytes between the starts of two rows; it is ignored if there is only one row.
struct CopyPiece {
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
  std::uint64_t nbytes = 0;
  std::uint64_t rows = 1;
  std::uint64_t from_pitch = 0;
  std::uint64_t to_pitch = 0;
};

// Identifies queued copies. A ticket ends when done() or wait() has returned true or an error for
// it.
using Ticket = std::uint64_t;

// What loads do not need of a device: memory for callers without an allocator of their own, and the
// way back to the host, for tests and tools. Every member may be called from any thread at once.
class FLATBED_EXPORT DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // Allocates memory of the device, aligned to at least 256 bytes, for callers without an allocator
  // of their own. Errors: resource_exhausted, device_error.
  [[nodiscard]] virtual Result<std::byte*> allocate(std::uint64_t nbytes) = 0;
  virtual void release(std::byte* memory, std::uint64_t nbytes) noexcept = 0;
  // Copies memory of the device to the host, after everything queued so far; waits. Errors:
  // resource_exhausted, device_error, device_timeout.
  [[nodiscard]] virtual Result<void> read_back(const std::byte* from, std::span<std::byte> out) = 0;

 protected:
  ~DeviceMemory() = default;  // a part of its device
};

class FLATBED_EXPORT Device {
 public:
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  // Compiled into the library, always with RTTI, so that the type is unique and a dynamic_cast
  // works across shared objects, whatever flags the rest of the library was compiled with.
  virtual ~Device();

  [[nodiscard]] virtual std::string_view name() const noexcept = 0;  // "host", "cuda:1"

  // True if the processor can write the device's memory, so that a load may read files straight
  // into it. Its copies are then done when copy() returns.
  [[nodiscard]] virtual bool is_host() const noexcept = 0;

  // Whether copies may write to [data, data + nbytes). Errors: destination_invalid, device_error.
  [[nodiscard]] virtual Result<void> check(const std::byte* data, std::uint64_t nbytes) = 0;

  // Allocates memory that the processor fills and copies read: aligned to at least 4096 bytes,
  // touched and (for a GPU) page-locked. unstage() frees it; no copy from it may be under way.
  // Errors: resource_exhausted, device_error.
  [[nodiscard]] virtual Result<std::byte*> stage(std::uint64_t nbytes) = 0;
  virtual void unstage(std::byte* memory, std::uint64_t nbytes) noexcept = 0;

  // Queues all pieces, in order. The sources must not change until the ticket is done. After an
  // error some pieces may have been queued; their sources are in use until a later fence() is done.
  [[nodiscard]] virtual Result<Ticket> copy(std::span<const CopyPiece> pieces) = 0;
  // Returns a ticket for everything queued so far.
  [[nodiscard]] virtual Result<Ticket> fence() = 0;
  // Whether the ticket's copies are complete; does not wait. Ends the ticket, unless it returns
  // false. After an error the sources may still be in use.
  [[nodiscard]] virtual Result<bool> done(Ticket ticket) = 0;
  // Ends a ticket that was not waited for.
  virtual void forget(Ticket ticket) noexcept = 0;
  // The device's own event for a ticket that has not ended (a cudaEvent_t), so that the engine's
  // streams can wait for it; null if there is none. A device without events cannot report ready
  // groups (LoadOptions::ready).
  [[nodiscard]] virtual void* native_event(Ticket ticket) noexcept = 0;

  // Loads call this on each of their threads before check(), copy(), fence(), done() and wait() are
  // called there; so must other callers of those. A device whose interface keeps state for each
  // thread (a current device) sets it here. The default does nothing.
  [[nodiscard]] virtual Result<void> enter_thread() { return {}; }
  // Whether the processor itself can write [data, data + nbytes), memory that check() accepts: a
  // load then reads files straight into it, as into the host's, once the device has done what was
  // queued before. Asked by LoadPlan::add(). The default says no.
  [[nodiscard]] virtual bool host_can_write(const std::byte* /*data*/, std::uint64_t /*nbytes*/) {
    return false;
  }
  // Called when a load begins, on the thread that called load(): copies that are queued from now on
  // come after what the engine's own stream holds now. The default does nothing.
  [[nodiscard]] virtual Result<void> order_after_engine() { return {}; }
  // Called before LoadOptions::ready, on the thread that called load(), with the ticket that
  // GroupReady has an event of: the engine's own stream waits for it from now on. The default does
  // nothing.
  [[nodiscard]] virtual Result<void> order_before_engine(Ticket /*ticket*/) { return {}; }

  // What allocates the device's memory for DeviceBuffer; null, the default, where only the engine's
  // own allocator does. Lives as long as the device.
  [[nodiscard]] virtual DeviceMemory* memory() noexcept { return nullptr; }

  // Waits until the ticket's copies are complete, for about `most` at the longest, and then answers
  // as done() does. The default asks done() again and again, with pauses: a device that can wake a
  // thread should, because a pause is often longer than the copy.
  [[nodiscard]] virtual Result<bool> wait(Ticket ticket, std::chrono::nanoseconds most);

  // The NUMA node of the host that the device is attached to, and how many bytes a second copies to
  // it reach at most. Threads that read for the device are placed and counted by them. Defaults: -1
  // and 0, unknown.
  [[nodiscard]] virtual int numa_node() const noexcept { return -1; }
  [[nodiscard]] virtual std::uint64_t link_bytes_per_second() const noexcept { return 0; }
};

// The host's memory. A destination may be any memory of this process.
[[nodiscard]] FLATBED_EXPORT std::unique_ptr<Device> host_device();

// Memory of a device, freed by the destructor. Move-only; borrows the device.
class FLATBED_EXPORT DeviceBuffer {
 public:
  // Errors: those of DeviceMemory::allocate(); invalid_argument where the device has no memory().
  [[nodiscard]] static Result<DeviceBuffer> allocate(Device& device, std::uint64_t nbytes);
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : memory_(other.memory_),
        data_(std::exchange(other.data_, nullptr)),
        nbytes_(other.nbytes_) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(data_, other.data_);
    std::swap(nbytes_, other.nbytes_);
    return *this;
  }
  ~DeviceBuffer() {
    if (data_ != nullptr) memory_->release(data_, nbytes_);
  }

  // The address on the device. The processor can access it only if the device is the host.
  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::uint64_t nbytes() const noexcept { return nbytes_; }

 private:
  DeviceBuffer(DeviceMemory& memory, std::byte* data, std::uint64_t nbytes)
      : memory_(&memory), data_(data), nbytes_(nbytes) {}
  DeviceMemory* memory_;
  std::byte* data_;
  std::uint64_t nbytes_;
};

struct StagingOptions {
  std::uint64_t staging_nbytes = 64 << 20;  // of the whole pool; rounded down to whole slots
  std::uint64_t slot_nbytes = 8 << 20;      // of one slot: a multiple of 4096, at least 512 KiB
};

// Memory of Device::stage(), cut into slots. For several GPUs, use a pool of any one of them: CUDA
// memory is page-locked for all. Thread-safe. Must outlive the loads that use it.
class FLATBED_EXPORT StagingPool {
 public:
  // All of it is staged when this returns, by several threads, on the device's NUMA node if it has
  // one. Errors: budget_too_small (fewer than two slots), invalid_argument, those of
  // Device::stage().
  [[nodiscard]] static Result<std::unique_ptr<StagingPool>> create(
      Device& device, const StagingOptions& options = {});
  StagingPool(const StagingPool&) = delete;
  StagingPool& operator=(const StagingPool&) = delete;
  ~StagingPool();

  [[nodiscard]] Device& device() const noexcept;
  [[nodiscard]] std::uint64_t nbytes() const noexcept;
  [[nodiscard]] std::uint64_t slot_nbytes() const noexcept;
  // The peak use so far, in bytes.
  [[nodiscard]] std::uint64_t peak_nbytes() const noexcept;
  // Bytes from which a device failed to finish copying. Such memory is never written or freed
  // again, because a device may still be reading it.
  [[nodiscard]] std::uint64_t abandoned_nbytes() const noexcept;

 private:
  friend class StagingSlots;
  struct FLATBED_HIDDEN State;
  FLATBED_HIDDEN explicit StagingPool(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace flatbed
