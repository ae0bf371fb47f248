// cuda_devices(): asks CUDA for its devices. Owns nothing, creates no context, keeps no state, and
// works on a thread of its own.
#include <string>
#include <utility>
#include <vector>

#include "cuda_device.hpp"
#include "cuda_error.hpp"
#include "flatbed/cuda.hpp"
#include "own_thread.hpp"

namespace flatbed {
namespace cuda {
namespace {

Result<CudaDeviceInfo> device_info(const CudaApi& api, int ordinal) {
  cudaDeviceProp properties = {};
  if (const cudaError_t status = api.GetDeviceProperties(&properties, ordinal);
      status != cudaSuccess) {
    return cuda_error(api, status, "cuda:" + std::to_string(ordinal), "cudaGetDeviceProperties");
  }
  return CudaDeviceInfo{ordinal, properties.name.data(), properties.totalGlobalMem,
                        properties.major, properties.minor};
}

Result<std::vector<CudaDeviceInfo>> list_devices(const CudaApi& api) {
  int count = 0;
  if (const cudaError_t status = api.GetDeviceCount(&count); status != cudaSuccess) {
    return cuda_error(api, status, "CUDA", "cudaGetDeviceCount");
  }
  if (count == 0)
    return Error{ErrorCode::device_unavailable, "CUDA is installed, but no GPU was found"};
  std::vector<CudaDeviceInfo> devices;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    FLATBED_ASSIGN(CudaDeviceInfo info, device_info(api, ordinal));
    devices.push_back(std::move(info));
  }
  return devices;
}

}  // namespace

Result<std::vector<CudaDeviceInfo>> make_cuda_devices(const CudaApi& api) {
  return result_of_own_thread([&] { return list_devices(api); });
}

}  // namespace cuda

Result<std::vector<CudaDeviceInfo>> cuda_devices() {
  Result<std::shared_ptr<const cuda::CudaApi>> api = cuda::open_cuda_api();
  if (!api) return with_context("CUDA", std::move(api).error());
  return cuda::make_cuda_devices(**api);
}

}  // namespace flatbed
