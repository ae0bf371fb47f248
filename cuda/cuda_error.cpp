#include "cuda_error.hpp"

#include <string>
#include <string_view>

namespace flatbed::cuda {
namespace {

ErrorCode code_of(cudaError_t status) {
  switch (status) {
    case cudaErrorMemoryAllocation:
      return ErrorCode::resource_exhausted;
    // No driver, a driver older than the runtime, no device, one that is not ready yet, or an MPS
    // server that takes no more clients: the machine cannot run CUDA, which is different from a
    // failure of CUDA.
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorStubLibrary:
    case cudaErrorSystemNotReady:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorDevicesUnavailable:
    case cudaErrorMpsConnectionFailed:
    case cudaErrorMpsServerNotReady:
    case cudaErrorMpsMaxClientsReached:
    case cudaErrorMpsMaxConnectionsReached:
      return ErrorCode::device_unavailable;
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
    case cudaErrorStreamCaptureIsolation:
    case cudaErrorStreamCaptureImplicit:
      return ErrorCode::stream_capturing;
    default:
      return ErrorCode::device_error;
  }
}

// CUDA's own text only says "insufficient", also on a machine without any driver.
std::string_view text_of(const CudaApi& api, cudaError_t status) {
  if (status == cudaErrorInsufficientDriver)
    return "no NVIDIA driver found, or one too old for this CUDA runtime";
  return api.GetErrorString(status);
}

}  // namespace

void consume(const CudaApi& api, cudaError_t status) noexcept {
  if (status != cudaSuccess && api.PeekAtLastError() == status) {
    static_cast<void>(api.GetLastError());
  }
}

Error cuda_error(const CudaApi& api, cudaError_t status, std::string_view place,
                 std::string_view call) {
  consume(api, status);
  std::string message(place);
  if (!message.empty()) message += ": ";
  message.append(call).append(": ").append(api.GetErrorName(status));
  message.append(": ").append(text_of(api, status));
  return {code_of(status), std::move(message)};
}

}  // namespace flatbed::cuda
