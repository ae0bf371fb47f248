// CUDA: GPUs as devices for load(). Part of the component flatbed::cuda, which finds the NVIDIA
// driver at run time, of CUDA 11.4 or newer, and needs nothing else of CUDA.
//
//   FLATBED_ASSIGN(const auto gpu, cuda_device(0));
//   FLATBED_TRY(plan.add(model, "w", {.device = gpu.get(), .data = pointer, .capacity = nbytes}));
//
// This component makes its CUDA calls on threads of its own or of a load, and so the caller's
// current device and last CUDA error do not change. Those threads are in the relaxed capture mode:
// a load spoils no graph that an engine captures meanwhile. Only what concerns the calling thread's
// own default stream (EngineStream::per_thread()) is called on it, and leaves its state as it was.
//
// A caller of a Device's own functions makes the calls of check(), copy(), fence(), done() and
// wait() on its thread. They need some device to be current there, whichever, and leave it so.
// enter_thread() is for threads that begin: it makes this device current and the capture mode
// relaxed, for good.
//
// A device object belongs to the process that made it, and must end before cudaDeviceReset() of its
// GPU: what it has created would be gone. After fork() it is of no use in the child, which does not
// have the staging memory either.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "flatbed/device.hpp"
#include "flatbed/export.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

struct CudaDeviceInfo {
  int ordinal = 0;
  std::string name = {};
  std::uint64_t memory_nbytes = 0;
  int compute_major = 0;
  int compute_minor = 0;
  std::array<std::byte, 16> uuid = {};  // as in "GPU-..." of nvidia-smi
  std::string pci_bus_id = {};          // "0000:3B:00.0"
  int numa_node = -1;                   // of the host, next to it; -1: unknown, or there is one
  std::optional<std::uint64_t> free_nbytes = {};  // of memory_nbytes; only where it was asked for
};

// Whether cuda_devices() asks how much memory is free. Only a context knows: to ask creates the
// primary context of every device, which takes time, and hundreds of MiB of the device until the
// process ends. Where an engine has created them, it costs nothing.
enum class FreeMemory : std::uint8_t { skip, ask };

// Every CUDA device that this process can use, in ordinal order; never empty. Creates no context,
// unless it asks for free memory. Errors: device_unavailable (no driver, too old a driver, no
// device), device_error (anything else). Thread-safe.
[[nodiscard]] FLATBED_EXPORT Result<std::vector<CudaDeviceInfo>> cuda_devices(
    FreeMemory free_memory = FreeMemory::skip);

// A stream of the engine's. Which one is always said in words, because null is a stream to CUDA:
// the legacy default stream, or the per-thread one where the caller was compiled for that.
class EngineStream {
 public:
  // One that was created, of the device in question; not null, which cuda_device() refuses.
  [[nodiscard]] static EngineStream created(void* stream) noexcept { return EngineStream(stream); }
  // The device's legacy default stream: stream 0 of most programs, torch's default stream too.
  [[nodiscard]] static EngineStream legacy() noexcept;
  // The default stream that each thread has of its own on a device: that of the thread which calls
  // load(), where the device must be current (cudaSetDevice).
  [[nodiscard]] static EngineStream per_thread() noexcept;

  [[nodiscard]] void* handle() const noexcept { return handle_; }  // a cudaStream_t

 private:
  explicit EngineStream(void* handle) noexcept : handle_(handle) {}
  void* handle_;
};

// cudaStreamLegacy and cudaStreamPerThread.
inline EngineStream EngineStream::legacy() noexcept {
  return EngineStream(reinterpret_cast<void*>(std::uintptr_t{1}));
}
inline EngineStream EngineStream::per_thread() noexcept {
  return EngineStream(reinterpret_cast<void*>(std::uintptr_t{2}));
}

// How loads are ordered with the engine's work on the same memory. By default they are not: the
// stream of the copies waits for nothing, and nothing waits for it but load().
//
//   order_after   ...kernels that use the memory, cudaMallocAsync...|
//                                               load() begins here  |
//                                                                   v
//   copies                                        (waits)           | group 0 | group 1 | ...
//                                                                             |         |
//   ready is called for group 0, later for group 1                            v         v
//   order_before                                            (waits)           | kernels | kernels
//
// All these streams must outlive the device object. None may be captured into a graph when load()
// begins or a group is ready, and the legacy stream not be one of them while any blocking stream of
// its device is captured (stream_capturing). Copies that the engine's work holds up count towards
// LoadOptions::device_timeout.
struct CudaDeviceOptions {
  // A stream that the engine created, to which copies are queued: after and before what it queues
  // there itself. Default: a non-blocking stream of the device object's own.
  std::optional<EngineStream> stream = {};
  // Each load's copies come after what this stream holds when load() begins: name the stream on
  // which the destinations were allocated or last used. Destinations that torch's allocator or
  // cudaMallocAsync() gave may still be in use there.
  std::optional<EngineStream> order_after = {};
  // This stream waits for each group's copies before LoadOptions::ready is called for the group:
  // what the callback queues there finds the group's tensors. Without `ready`, load() itself is
  // what waits.
  std::optional<EngineStream> order_before = {};
};

// A GPU, usable from any thread. Its destinations may be any memory of that GPU (cudaMalloc,
// cudaMallocAsync, managed), and, where the GPU uses the host's page tables (GH200, GB10), any of
// the host's. What the host can write there, managed memory too, is read straight from the files,
// once the GPU has done what `order_after` (or `stream`) names. It has a thread of its own, which
// ends with it.
// Errors: device_unavailable (also if there is no device of this ordinal), device_error,
// resource_exhausted, invalid_argument (a null stream), stream_capturing.
[[nodiscard]] FLATBED_EXPORT Result<std::unique_ptr<Device>> cuda_device(
    int ordinal, const CudaDeviceOptions& options = {});

}  // namespace flatbed
