// cuda_devices(): asks CUDA for its devices. Owns nothing, keeps no state, and works on a thread of
// its own.
#include <array>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "capture_mode.hpp"
#include "cuda_device.hpp"
#include "cuda_error.hpp"
#include "flatbed/cuda.hpp"
#include "own_thread.hpp"
#include "pci_numa.hpp"

namespace flatbed {
namespace cuda {
namespace {

Result<std::string> pci_bus_id(const CudaApi& api, int ordinal, const std::string& place) {
  std::array<char, kPciBusIdNbytes> id = {};
  if (const cudaError_t status =
          api.DeviceGetPCIBusId(id.data(), static_cast<int>(id.size()), ordinal);
      status != cudaSuccess) {
    return cuda_error(api, status, place, "cudaDeviceGetPCIBusId");
  }
  return std::string(id.data());
}

// In the device's primary context, which this creates where nobody has.
Result<std::uint64_t> free_nbytes(const CudaApi& api, int ordinal, const std::string& place) {
  FLATBED_TRY(relax_capture_mode(api, place));
  if (const cudaError_t status = api.SetDevice(ordinal); status != cudaSuccess) {
    return cuda_error(api, status, place, "cudaSetDevice");
  }
  std::size_t unused = 0;
  std::size_t total = 0;
  if (const cudaError_t status = api.MemGetInfo(&unused, &total); status != cudaSuccess) {
    return cuda_error(api, status, place, "cudaMemGetInfo");
  }
  return std::uint64_t{unused};
}

Result<CudaDeviceInfo> device_info(const CudaApi& api, int ordinal, FreeMemory free_memory,
                                   const std::string& sysfs) {
  const std::string place = "cuda:" + std::to_string(ordinal);
  cudaDeviceProp properties = {};
  if (const cudaError_t status = api.GetDeviceProperties(&properties, ordinal);
      status != cudaSuccess) {
    return cuda_error(api, status, place, "cudaGetDeviceProperties");
  }
  CudaDeviceInfo info{.ordinal = ordinal,
                      .name = std::data(properties.name),
                      .memory_nbytes = properties.totalGlobalMem,
                      .compute_major = properties.major,
                      .compute_minor = properties.minor};
  static_assert(sizeof properties.uuid == sizeof info.uuid);
  std::memcpy(info.uuid.data(), &properties.uuid, sizeof info.uuid);
  FLATBED_ASSIGN(info.pci_bus_id, pci_bus_id(api, ordinal, place));
  info.numa_node = numa_node_of_pci(sysfs, info.pci_bus_id);
  if (free_memory == FreeMemory::ask) {
    FLATBED_ASSIGN(info.free_nbytes, free_nbytes(api, ordinal, place));
  }
  return info;
}

Result<std::vector<CudaDeviceInfo>> list_devices(const CudaApi& api, FreeMemory free_memory,
                                                 const std::string& sysfs) {
  int count = 0;
  if (const cudaError_t status = api.GetDeviceCount(&count); status != cudaSuccess) {
    return cuda_error(api, status, "CUDA", "cudaGetDeviceCount");
  }
  if (count == 0)
    return Error{ErrorCode::device_unavailable, "CUDA is installed, but no GPU was found"};
  std::vector<CudaDeviceInfo> devices;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    FLATBED_ASSIGN(CudaDeviceInfo info, device_info(api, ordinal, free_memory, sysfs));
    devices.push_back(std::move(info));
  }
  return devices;
}

}  // namespace

Result<std::vector<CudaDeviceInfo>> make_cuda_devices(const CudaApi& api, FreeMemory free_memory,
                                                      const std::string& sysfs) {
  return result_of_own_thread([&] { return list_devices(api, free_memory, sysfs); });
}

}  // namespace cuda

Result<std::vector<CudaDeviceInfo>> cuda_devices(FreeMemory free_memory) {
  Result<std::shared_ptr<const cuda::CudaApi>> api = cuda::open_cuda_api();
  if (!api) return with_context("CUDA", std::move(api).error());
  return cuda::make_cuda_devices(**api, free_memory);
}

}  // namespace flatbed
