// cuda_devices(): asks the CUDA runtime what is there. Owns nothing, creates no context, keeps no
// state. Thread-safe: the runtime's last error is per thread.
#include <cuda_runtime_api.h>

#include <string>
#include <utility>
#include <vector>

#include "flatbed/cuda.hpp"

namespace flatbed {
namespace {

// No driver, one that is older than the runtime, or no device: the machine cannot run CUDA, which
// is different from CUDA failing.
bool means_unavailable(cudaError_t status) {
  return status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver ||
         status == cudaErrorStubLibrary || status == cudaErrorSystemDriverMismatch ||
         status == cudaErrorCompatNotSupportedOnDevice || status == cudaErrorDevicesUnavailable;
}

Error cuda_error(const char* call, cudaError_t status) {
  // The failed call left its status as this thread's last error: take it away again, so that the
  // caller's next check does not report it.
  static_cast<void>(cudaGetLastError());
  const ErrorCode code =
      means_unavailable(status) ? ErrorCode::device_unavailable : ErrorCode::device_error;
  return {code,
          std::string(call) + ": " + cudaGetErrorName(status) + ": " + cudaGetErrorString(status)};
}

Result<CudaDeviceInfo> device_info(int ordinal) {
  cudaDeviceProp properties;
  if (const cudaError_t status = cudaGetDeviceProperties(&properties, ordinal);
      status != cudaSuccess) {
    return cuda_error("cudaGetDeviceProperties", status);
  }
  return CudaDeviceInfo{ordinal, properties.name, properties.totalGlobalMem, properties.major,
                        properties.minor};
}

}  // namespace

Result<std::vector<CudaDeviceInfo>> cuda_devices() {
  int count = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess) {
    return cuda_error("cudaGetDeviceCount", status);
  }
  if (count == 0) return Error{ErrorCode::device_unavailable, "CUDA is there, but no device is"};
  std::vector<CudaDeviceInfo> devices;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    FLATBED_ASSIGN(CudaDeviceInfo info, device_info(ordinal));
    devices.push_back(std::move(info));
  }
  return devices;
}

}  // namespace flatbed
