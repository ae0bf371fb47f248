#include "driver_api.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "driver_functions.hpp"

namespace flatbed::cuda {
namespace {

using driver::CUcontext;
using driver::CUdevice;
using driver::CUdeviceptr;
using driver::CUresult;
using driver::DriverFunctions;

constexpr std::size_t kMaxDevices = 256;

// The functions, and the primary context of each device that was made current: the context that
// the CUDA runtime uses, too. A context is retained once and never released, as the runtime does
// it. If the last release destroyed it, threads on which it is current, also the engine's, would be
// left with a context that no longer exists.
struct Driver {
  DriverFunctions functions = {};
  mutable std::array<std::atomic<CUcontext>, kMaxDevices> contexts = {};
};

// The driver's statuses are numbered like the runtime's.
cudaError_t status_of(CUresult result) { return static_cast<cudaError_t>(result); }

CUdeviceptr address(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory); }

// Calls the function, which takes the arguments as they are.
template <auto kFunction, typename... Arguments>
cudaError_t forward(const Driver& driver, Arguments... arguments) {
  return status_of((driver.functions.*kFunction)(arguments...));
}

// ---- devices --------------------------------------------------------------------------------

// The first call that everybody makes; to initialize the driver again costs nothing.
cudaError_t get_device_count(const Driver& driver, int* count) {
  if (const CUresult result = driver.functions.cuInit(0); result != cudaSuccess) {
    return status_of(result);
  }
  return status_of(driver.functions.cuDeviceGetCount(count));
}

// Calls `use` with the device of an ordinal.
template <typename Use>
cudaError_t with_device(const Driver& driver, int ordinal, Use&& use) {
  CUdevice device = 0;
  const CUresult result = driver.functions.cuDeviceGet(&device, ordinal);
  return status_of(result == cudaSuccess ? use(device) : result);
}

cudaError_t device_get_attribute(const Driver& driver, int* value, cudaDeviceAttr attribute,
                                 int ordinal) {
  return with_device(driver, ordinal, [&](CUdevice device) {
    return driver.functions.cuDeviceGetAttribute(value, attribute, device);
  });
}

cudaError_t device_get_pci_bus_id(const Driver& driver, char* id, int size, int ordinal) {
  return with_device(driver, ordinal, [&](CUdevice device) {
    return driver.functions.cuDeviceGetPCIBusId(id, size, device);
  });
}

cudaError_t get_device_properties(const Driver& driver, cudaDeviceProp* out, int ordinal) {
  const DriverFunctions& cu = driver.functions;
  *out = {};
  return with_device(driver, ordinal, [&](CUdevice device) {
    CUresult result =
        cu.cuDeviceGetName(out->name.data(), static_cast<int>(out->name.size()), device);
    if (result == cudaSuccess) result = cu.cuDeviceGetUuid(out->uuid.data(), device);
    if (result == cudaSuccess) result = cu.cuDeviceTotalMem(&out->totalGlobalMem, device);
    if (result == cudaSuccess) {
      result = cu.cuDeviceGetAttribute(&out->major, cudaDevAttrComputeCapabilityMajor, device);
    }
    if (result != cudaSuccess) return result;
    return cu.cuDeviceGetAttribute(&out->minor, cudaDevAttrComputeCapabilityMinor, device);
  });
}

// Retains the context of the device if this is its first use here.
cudaError_t set_device(const Driver& driver, int ordinal) {
  if (ordinal < 0 || static_cast<std::size_t>(ordinal) >= kMaxDevices) {
    return cudaErrorInvalidDevice;
  }
  std::atomic<CUcontext>& slot = driver.contexts[static_cast<std::size_t>(ordinal)];
  CUcontext context = slot.load(std::memory_order_acquire);
  if (context == nullptr) {
    const cudaError_t status = with_device(driver, ordinal, [&](CUdevice device) {
      CUcontext retained = nullptr;
      const CUresult result = driver.functions.cuDevicePrimaryCtxRetain(&retained, device);
      if (result != cudaSuccess) return result;
      if (slot.compare_exchange_strong(context, retained, std::memory_order_acq_rel)) {
        context = retained;
        return result;
      }
      // Another thread was faster. Its reference remains.
      return driver.functions.cuDevicePrimaryCtxRelease(device);
    });
    if (status != cudaSuccess) return status;
  }
  return status_of(driver.functions.cuCtxSetCurrent(context));
}

// ---- memory ---------------------------------------------------------------------------------

cudaError_t malloc_device(const Driver& driver, void** out, std::size_t nbytes) {
  CUdeviceptr memory = 0;
  const CUresult result = driver.functions.cuMemAlloc(&memory, nbytes);
  if (result == cudaSuccess) *out = reinterpret_cast<void*>(static_cast<std::uintptr_t>(memory));
  return status_of(result);
}

cudaError_t free_device(const Driver& driver, void* memory) {
  return status_of(driver.functions.cuMemFree(address(memory)));
}

// The driver describes an address that it does not know with zeros, or calls it an invalid value.
cudaError_t pointer_get_attributes(const Driver& driver, cudaPointerAttributes* out,
                                   const void* memory) {
  unsigned type = 0;
  int ordinal = -2;
  unsigned is_managed = 0;
  CUdeviceptr on_device = 0;
  void* on_host = nullptr;
  std::array attributes{
      driver::CU_POINTER_ATTRIBUTE_MEMORY_TYPE, driver::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
      driver::CU_POINTER_ATTRIBUTE_IS_MANAGED, driver::CU_POINTER_ATTRIBUTE_DEVICE_POINTER,
      driver::CU_POINTER_ATTRIBUTE_HOST_POINTER};
  std::array<void*, attributes.size()> values{&type, &ordinal, &is_managed, &on_device, &on_host};
  const CUresult result = driver.functions.cuPointerGetAttributes(
      static_cast<unsigned>(attributes.size()), attributes.data(), values.data(), address(memory));
  *out = {cudaMemoryTypeUnregistered, -2, nullptr, nullptr};
  if (result != cudaSuccess) {
    return result == cudaErrorInvalidValue ? cudaSuccess : status_of(result);
  }
  if (type != driver::CU_MEMORYTYPE_HOST && type != driver::CU_MEMORYTYPE_DEVICE) {
    return cudaSuccess;
  }
  out->type = type == driver::CU_MEMORYTYPE_HOST ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
  if (is_managed != 0) out->type = cudaMemoryTypeManaged;
  out->device = ordinal;
  out->devicePointer = reinterpret_cast<void*>(static_cast<std::uintptr_t>(on_device));
  out->hostPointer = on_host;
  return cudaSuccess;
}

// ---- streams --------------------------------------------------------------------------------

cudaError_t stream_is_capturing(const Driver& driver, cudaStream_t stream,
                                cudaStreamCaptureStatus* status) {
  int value = 0;
  const CUresult result = driver.functions.cuStreamIsCapturing(stream, &value);
  *status = static_cast<cudaStreamCaptureStatus>(value);
  return status_of(result);
}

cudaError_t thread_exchange_stream_capture_mode(const Driver& driver, cudaStreamCaptureMode* mode) {
  int value = *mode;
  const CUresult result = driver.functions.cuThreadExchangeStreamCaptureMode(&value);
  *mode = static_cast<cudaStreamCaptureMode>(value);
  return status_of(result);
}

cudaError_t memcpy_async(const Driver& driver, void* to, const void* from, std::size_t nbytes,
                         cudaMemcpyKind kind, cudaStream_t stream) {
  const DriverFunctions& cu = driver.functions;
  if (kind == cudaMemcpyHostToDevice) {
    return status_of(cu.cuMemcpyHtoDAsync(address(to), from, nbytes, stream));
  }
  if (kind == cudaMemcpyDeviceToHost) {
    return status_of(cu.cuMemcpyDtoHAsync(to, address(from), nbytes, stream));
  }
  return status_of(cu.cuMemcpyAsync(address(to), address(from), nbytes, stream));
}

// From the host to the device alone: nobody needs another direction.
cudaError_t memcpy_2d_async(const Driver& driver, void* to, std::size_t to_pitch, const void* from,
                            std::size_t from_pitch, std::size_t width, std::size_t height,
                            cudaMemcpyKind kind, cudaStream_t stream) {
  if (kind != cudaMemcpyHostToDevice) return cudaErrorNotSupported;
  driver::CUDA_MEMCPY2D copy = {};
  copy.srcMemoryType = driver::CU_MEMORYTYPE_HOST;
  copy.srcHost = from;
  copy.srcPitch = from_pitch;
  copy.dstMemoryType = driver::CU_MEMORYTYPE_DEVICE;
  copy.dstDevice = address(to);
  copy.dstPitch = to_pitch;
  copy.WidthInBytes = width;
  copy.Height = height;
  return status_of(driver.functions.cuMemcpy2DAsync(&copy, stream));
}

// The driver wants the addresses as numbers, and writes to none of its arrays.
cudaError_t memcpy_batch_async(const Driver& driver, void* const* to, const void* const* from,
                               const std::size_t* nbytes, std::size_t count, cudaStream_t stream) {
  std::vector<CUdeviceptr> destinations(count);
  std::vector<CUdeviceptr> sources(count);
  std::vector<std::size_t> sizes(nbytes, nbytes + count);
  for (std::size_t i = 0; i < count; ++i) {
    destinations[i] = address(to[i]);
    sources[i] = address(from[i]);
  }
  driver::CUmemcpyAttributes attributes = {};
  attributes.srcAccessOrder = driver::CU_MEMCPY_SRC_ACCESS_ORDER_STREAM;
  std::size_t first_with_attributes = 0;
  std::size_t failed = 0;
  return status_of(driver.functions.cuMemcpyBatchAsync(destinations.data(), sources.data(),
                                                       sizes.data(), count, &attributes,
                                                       &first_with_attributes, 1, &failed, stream));
}

// ---- errors ---------------------------------------------------------------------------------

cudaError_t no_last_error() { return cudaSuccess; }

template <auto kFunction>
const char* error_text(const Driver& driver, cudaError_t status) {
  const char* text = nullptr;
  const CUresult result = (driver.functions.*kFunction)(status, &text);
  return result == cudaSuccess && text != nullptr ? text : "unrecognized error code";
}

// ---- the table ------------------------------------------------------------------------------

struct DriverApi {
  Driver driver;
  CudaApi table;
};

// Binds an entry of the table to a function above.
template <auto kFunction, typename Signature>
void fill(CudaCall<Signature>& entry, const Driver& driver) {
  entry = CudaCall<Signature>::template bind<kFunction>(driver);
}

// Binds an entry of the table to a function of the driver with the same parameters.
template <auto kFunction, typename... Arguments>
void fill_same(CudaCall<cudaError_t(Arguments...)>& entry, const Driver& driver) {
  fill<&forward<kFunction, Arguments...>>(entry, driver);
}

void fill_devices_and_memory(CudaApi& table, const Driver& driver) {
  using F = DriverFunctions;
  fill<get_device_count>(table.GetDeviceCount, driver);
  fill<get_device_properties>(table.GetDeviceProperties, driver);
  fill<device_get_attribute>(table.DeviceGetAttribute, driver);
  fill<device_get_pci_bus_id>(table.DeviceGetPCIBusId, driver);
  fill<set_device>(table.SetDevice, driver);
  fill_same<&F::cuMemGetInfo>(table.MemGetInfo, driver);
  fill<malloc_device>(table.Malloc, driver);
  fill<free_device>(table.Free, driver);
  fill_same<&F::cuMemHostAlloc>(table.HostAlloc, driver);
  fill_same<&F::cuMemFreeHost>(table.FreeHost, driver);
  fill_same<&F::cuMemHostRegister>(table.HostRegister, driver);
  fill_same<&F::cuMemHostUnregister>(table.HostUnregister, driver);
  fill<pointer_get_attributes>(table.PointerGetAttributes, driver);
}

void fill_streams(CudaApi& table, const Driver& driver) {
  using F = DriverFunctions;
  fill_same<&F::cuStreamCreate>(table.StreamCreateWithFlags, driver);
  fill_same<&F::cuStreamDestroy>(table.StreamDestroy, driver);
  fill_same<&F::cuStreamQuery>(table.StreamQuery, driver);
  fill_same<&F::cuStreamWaitEvent>(table.StreamWaitEvent, driver);
  fill<stream_is_capturing>(table.StreamIsCapturing, driver);
  fill<thread_exchange_stream_capture_mode>(table.ThreadExchangeStreamCaptureMode, driver);
  fill_same<&F::cuLaunchHostFunc>(table.LaunchHostFunc, driver);
  fill<memcpy_async>(table.MemcpyAsync, driver);
  fill<memcpy_2d_async>(table.Memcpy2DAsync, driver);
  if (driver.functions.cuMemcpyBatchAsync != nullptr) {
    fill<memcpy_batch_async>(table.MemcpyBatchAsync, driver);
  }
  fill_same<&F::cuEventCreate>(table.EventCreateWithFlags, driver);
  fill_same<&F::cuEventDestroy>(table.EventDestroy, driver);
  fill_same<&F::cuEventRecord>(table.EventRecord, driver);
  fill_same<&F::cuEventQuery>(table.EventQuery, driver);
  fill_same<&F::cuEventSynchronize>(table.EventSynchronize, driver);
}

void fill_errors(CudaApi& table, const Driver& driver) {
  table.GetLastError = no_last_error;
  table.PeekAtLastError = no_last_error;
  fill<error_text<&DriverFunctions::cuGetErrorName>>(table.GetErrorName, driver);
  fill<error_text<&DriverFunctions::cuGetErrorString>>(table.GetErrorString, driver);
}

}  // namespace

Result<std::shared_ptr<const CudaApi>> open_driver_api() {
  FLATBED_ASSIGN(const DriverFunctions functions, driver::find_driver_functions());
  const auto made = std::make_shared<DriverApi>();
  made->driver.functions = functions;
  fill_devices_and_memory(made->table, made->driver);
  fill_streams(made->table, made->driver);
  fill_errors(made->table, made->driver);
  return std::shared_ptr<const CudaApi>(made, &made->table);
}

}  // namespace flatbed::cuda
