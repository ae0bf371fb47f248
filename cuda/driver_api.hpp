// open_driver_api(): the table of CUDA functions over the NVIDIA driver, without the CUDA runtime.
// The table owns nothing that ends with it. Thread-safe.
#pragma once

#include <memory>

#include "cuda_api.hpp"
#include "flatbed/result.hpp"

namespace flatbed::cuda {

// Errors: device_unavailable (no driver, or one that is too old).
[[nodiscard]] Result<std::shared_ptr<const CudaApi>> open_driver_api();

}  // namespace flatbed::cuda
