// Which calls a thread may make while an engine captures a graph. On a thread as it begins, many
// (cudaMalloc, cudaEventQuery) fail while any other thread captures in the global mode, and spoil
// that graph. A thread in the relaxed mode may make them. What it queues is in no captured stream,
// and so is no part of a graph. Owns nothing; the mode belongs to the calling thread.
#pragma once

#include <string_view>

#include "cuda_api.hpp"
#include "cuda_error.hpp"
#include "flatbed/result.hpp"

namespace flatbed::cuda {

// Gives the thread the mode, and the caller the one that it had.
[[nodiscard]] inline Result<void> exchange_capture_mode(const CudaApi& api, std::string_view place,
                                                        cudaStreamCaptureMode& mode) {
  if (const cudaError_t status = api.ThreadExchangeStreamCaptureMode(&mode);
      status != cudaSuccess) {
    return cuda_error(api, status, place, "cudaThreadExchangeStreamCaptureMode");
  }
  return {};
}

// For a thread of our own, for good.
[[nodiscard]] inline Result<void> relax_capture_mode(const CudaApi& api, std::string_view place) {
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  return exchange_capture_mode(api, place, mode);
}

// For a thread of the engine's: calls `work`, a function that returns a Result<void>, in the
// relaxed mode.
template <typename Work>
[[nodiscard]] Result<void> in_relaxed_capture_mode(const CudaApi& api, std::string_view place,
                                                   const Work& work) {
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  FLATBED_TRY(exchange_capture_mode(api, place, mode));
  Result<void> result = work();
  Result<void> restored = exchange_capture_mode(api, place, mode);
  return result ? std::move(restored) : std::move(result);
}

}  // namespace flatbed::cuda
