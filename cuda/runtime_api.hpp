// runtime_api(): the table of CUDA functions over the CUDA runtime that this component is linked
// with (FLATBED_CUDART=static|shared). Built where the CUDA Toolkit is found. Thread-safe.
#pragma once

#include <memory>

#include "cuda_api.hpp"

namespace flatbed::cuda {

[[nodiscard]] std::shared_ptr<const CudaApi> runtime_api();

}  // namespace flatbed::cuda
