// Turns CUDA's status into an Error, and leaves CUDA's last error as it was. Owns nothing.
// Thread-safe: the last error belongs to the calling thread.
#pragma once

#include <string_view>

#include "cuda_api.hpp"
#include "flatbed/error.hpp"

namespace flatbed::cuda {

// Call after a function returned `status`. CUDA has also stored it as this thread's last error,
// where the engine's next check would find it. This removes it, but no other error.
// cudaErrorNotReady is stored like an error but is not one.
void consume(const CudaApi& api, cudaError_t status) noexcept;

// Makes "cuda:0: cudaMemcpyAsync of 4096 bytes: cudaErrorInvalidValue: invalid argument", and
// consumes the status. The driver has names of its own, here CUDA_ERROR_INVALID_VALUE. `place` may
// be empty.
[[nodiscard]] Error cuda_error(const CudaApi& api, cudaError_t status, std::string_view place,
                               std::string_view call);

}  // namespace flatbed::cuda
