// CUDA devices, as far as flatbed knows them today: which ones are there. Part of the component
// flatbed::cuda, built with FLATBED_CUDA=ON or AUTO where the CUDA Toolkit is found.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

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
// else). Leaves the caller's last CUDA error as it was where the runtime allows it. Thread-safe.
[[nodiscard]] Result<std::vector<CudaDeviceInfo>> cuda_devices();

}  // namespace flatbed
