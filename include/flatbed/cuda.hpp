// CUDA: GPUs as devices for load(). Part of the component flatbed::cuda, which finds the NVIDIA
// driver at run time, of CUDA 11.4 or newer, and needs nothing else of CUDA.
//
//   FLATBED_ASSIGN(const auto gpu, cuda_device(0));
//   FLATBED_TRY(plan.add(model, "w", {.device = gpu.get(), .data = pointer, .capacity = nbytes}));
//
// This component makes every CUDA call on a thread of its own or of a load, so the caller's current
// device and last CUDA error do not change. (A caller of a Device's copy(), fence(), done() or
// check() makes those calls on its own thread.)
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "flatbed/device.hpp"
#include "flatbed/export.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

struct CudaDeviceInfo {
  int ordinal = 0;
  std::string name;
  std::uint64_t memory_nbytes = 0;
  int compute_major = 0;
  int compute_minor = 0;
};

// Every CUDA device that this process can use, in ordinal order; never empty. Creates no context.
// Errors: device_unavailable (no driver, too old a driver, no device), device_error (anything
// else). Thread-safe.
[[nodiscard]] FLATBED_EXPORT Result<std::vector<CudaDeviceInfo>> cuda_devices();

struct CudaDeviceOptions {
  // The engine's cudaStream_t of this device, to which copies are queued. It must outlive the
  // device object. Default: null, a non-blocking stream of the device object's own. The legacy
  // default stream is not allowed.
  void* stream = nullptr;
};

// A GPU, usable from any thread. Its destinations may be any memory of that GPU (cudaMalloc,
// cudaMallocAsync, managed).
// Errors: device_unavailable (also if there is no device of this ordinal), device_error,
// resource_exhausted.
[[nodiscard]] FLATBED_EXPORT Result<std::unique_ptr<Device>> cuda_device(
    int ordinal, const CudaDeviceOptions& options = {});

}  // namespace flatbed
