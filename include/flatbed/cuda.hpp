// CUDA: GPUs as devices that load() delivers to. Part of the component flatbed::cuda, built with
// FLATBED_CUDA=ON or AUTO where the CUDA Toolkit is found.
//
//   FLATBED_ASSIGN(const auto gpu, cuda_device(0));
//   FLATBED_TRY(plan.add(model, "w", {.device = gpu.get(), .data = pointer, .capacity = nbytes}));
//
// Every CUDA call of this component is made on a thread of its own or of a load, so that the
// caller's current device and last CUDA error stay as they are. (Who calls copy(), fence(), done()
// or check() of a Device himself has them made on his own thread.)
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
  // A cudaStream_t of the engine, of this device, that copies are queued to; it must outlive the
  // device object. Null: a non-blocking stream of the device object's own. The legacy default
  // stream cannot be had.
  void* stream = nullptr;
};

// A GPU, for any thread. Its destinations may be any memory of that GPU (cudaMalloc,
// cudaMallocAsync, managed).
// Errors: device_unavailable (also: no device of this ordinal), device_error, resource_exhausted.
[[nodiscard]] FLATBED_EXPORT Result<std::unique_ptr<Device>> cuda_device(
    int ordinal, const CudaDeviceOptions& options = {});

}  // namespace flatbed
