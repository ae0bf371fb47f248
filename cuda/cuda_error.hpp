// What CUDA says, as an Error, and CUDA's last error left as it was found. Owns nothing.
// Thread-safe: the last error is the calling thread's.
#pragma once

#include <string_view>

#include "cuda_api.hpp"
#include "flatbed/error.hpp"

namespace flatbed::cuda {

// After a call that returned `status`: CUDA has put that down as this thread's last error, too,
// where the engine's next check would find it. Takes it away again, but nothing else.
// cudaErrorNotReady is put down like an error and is none.
void consume(const CudaApi& api, cudaError_t status) noexcept;

// "cuda:0: cudaMemcpyAsync of 4096 bytes: cudaErrorInvalidValue: invalid argument". Consumes the
// status. `place` may be empty.
[[nodiscard]] Error cuda_error(const CudaApi& api, cudaError_t status, std::string_view place,
                               std::string_view call);

}  // namespace flatbed::cuda
