// The driver's functions over the fake's calls. As in the driver, most of them need a current
// context, and a context a retained reference.
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>
#include <vector>

#include "cuda/driver_functions.hpp"
#include "support/fake_cuda_driver/process.hpp"
#include "support/fake_cuda_state.hpp"

namespace flatbed::fake_cuda {
namespace {

namespace cu = cuda::driver;
using cu::CUcontext;
using cu::CUdeviceptr;
using cu::CUevent;
using cu::CUresult;
using cu::CUstream;

constexpr CUresult kInvalidContext = 201;
constexpr std::size_t kMaxDevices = 64;

std::atomic<bool> g_initialized = false;
// How often the primary context of each device is retained. A context is the address of its count.
std::array<std::atomic<int>, kMaxDevices> g_retained;
thread_local CUcontext t_current = nullptr;

CUcontext context_of(int device) {
  return reinterpret_cast<CUcontext>(&g_retained[static_cast<std::size_t>(device)]);
}

// The calls, for a function that needs a current context.
template <typename Body>
CUresult in_context(const Body& body) {
  if (!g_initialized) return cudaErrorInitializationError;
  if (t_current == nullptr) return kInvalidContext;
  return body(process_calls());
}

template <auto kCall, typename... Arguments>
CUresult same(Arguments... arguments) {
  return in_context([&](const cuda::CudaApi& calls) { return (calls.*kCall)(arguments...); });
}

void* pointer(CUdeviceptr address) {
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(address));
}

// ---- devices and contexts -------------------------------------------------------------------

CUresult init(unsigned flags) {
  if (flags != 0) return cudaErrorInvalidValue;
  if (process_config().init_status != 0) return process_config().init_status;
  g_initialized = true;
  return cudaSuccess;
}

CUresult device_get_count(int* count) {
  if (!g_initialized) return cudaErrorInitializationError;
  return process_calls().GetDeviceCount(count);
}

CUresult device_get(int* device, int ordinal) {
  if (!g_initialized) return cudaErrorInitializationError;
  if (ordinal < 0 || ordinal >= process_config().options.devices) return cudaErrorInvalidDevice;
  *device = ordinal;
  return cudaSuccess;
}

// Three functions of the driver are one call of the runtime's, which the first of them makes.
CUresult device_get_name(char* name, int size, int device) {
  cudaDeviceProp found = {};
  const CUresult result = process_calls().GetDeviceProperties(&found, device);
  if (result == cudaSuccess) {
    std::strncpy(name, found.name.data(), static_cast<std::size_t>(size) - 1);
  }
  return result;
}

CUresult device_get_uuid(std::byte* uuid, int device) {
  std::memset(uuid, 0xFA, 15);
  uuid[15] = static_cast<std::byte>(device);
  return cudaSuccess;
}

CUresult device_total_mem(std::size_t* nbytes, int) {
  *nbytes = process_config().options.device_limit_nbytes;
  return cudaSuccess;
}

CUresult device_get_attribute(int* value, int attribute, int device) {
  return process_calls().DeviceGetAttribute(value, static_cast<cudaDeviceAttr>(attribute), device);
}

CUresult device_get_pci_bus_id(char* id, int size, int device) {
  return process_calls().DeviceGetPCIBusId(id, size, device);
}

CUresult primary_ctx_retain(CUcontext* context, int device) {
  if (process_config().retain_status != 0) return process_config().retain_status;
  ++g_retained[static_cast<std::size_t>(device)];
  *context = context_of(device);
  return cudaSuccess;
}

CUresult primary_ctx_release(int device) {
  if (--g_retained[static_cast<std::size_t>(device)] < 0) {
    add_misuse("cuDevicePrimaryCtxRelease of a context that was not retained");
  }
  return cudaSuccess;
}

CUresult ctx_set_current(CUcontext context) {
  for (int device = 0; device < process_config().options.devices; ++device) {
    if (context != context_of(device)) continue;
    if (g_retained[static_cast<std::size_t>(device)] <= 0) {
      add_misuse("cuCtxSetCurrent of a context that is not retained");
    }
    const CUresult result = process_calls().SetDevice(device);
    if (result == cudaSuccess) t_current = context;
    return result;
  }
  add_misuse("cuCtxSetCurrent of a context that never was");
  return kInvalidContext;
}

// ---- memory ---------------------------------------------------------------------------------

CUresult mem_alloc(CUdeviceptr* out, std::size_t nbytes) {
  return in_context([&](const cuda::CudaApi& calls) {
    void* memory = nullptr;
    const cudaError_t status = calls.Malloc(&memory, nbytes);
    *out = reinterpret_cast<std::uintptr_t>(memory);
    return status;
  });
}

CUresult mem_free(CUdeviceptr memory) {
  return in_context([&](const cuda::CudaApi& calls) { return calls.Free(pointer(memory)); });
}

// Of an address that it does not know, every attribute is zero.
CUresult pointer_get_attributes(unsigned count, int* attributes, void** out, CUdeviceptr address) {
  cudaPointerAttributes found = {};
  const CUresult result = in_context([&](const cuda::CudaApi& calls) {
    return calls.PointerGetAttributes(&found, pointer(address));
  });
  if (result != cudaSuccess) return result;
  const bool is_known = found.type != cudaMemoryTypeUnregistered;
  const unsigned type =
      found.type == cudaMemoryTypeHost ? cu::CU_MEMORYTYPE_HOST : cu::CU_MEMORYTYPE_DEVICE;
  for (unsigned i = 0; i < count; ++i) {
    switch (attributes[i]) {
      case cu::CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        *static_cast<unsigned*>(out[i]) = is_known ? type : 0;
        break;
      case cu::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        *static_cast<int*>(out[i]) = is_known ? found.device : -2;
        break;
      case cu::CU_POINTER_ATTRIBUTE_IS_MANAGED:
        *static_cast<unsigned*>(out[i]) = found.type == cudaMemoryTypeManaged ? 1 : 0;
        break;
      case cu::CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        *static_cast<CUdeviceptr*>(out[i]) =
            is_known ? reinterpret_cast<std::uintptr_t>(found.devicePointer) : 0;
        break;
      case cu::CU_POINTER_ATTRIBUTE_HOST_POINTER:
        *static_cast<void**>(out[i]) = is_known ? found.hostPointer : nullptr;
        break;
      default:
        return cudaErrorInvalidValue;
    }
  }
  return cudaSuccess;
}

// ---- streams --------------------------------------------------------------------------------

CUresult stream_is_capturing(CUstream stream, int* status) {
  return in_context([&](const cuda::CudaApi& calls) {
    cudaStreamCaptureStatus found = cudaStreamCaptureStatusNone;
    const cudaError_t result = calls.StreamIsCapturing(stream, &found);
    *status = found;
    return result;
  });
}

CUresult thread_exchange_stream_capture_mode(int* mode) {
  auto exchanged = static_cast<cudaStreamCaptureMode>(*mode);
  const CUresult result = process_calls().ThreadExchangeStreamCaptureMode(&exchanged);
  *mode = exchanged;
  return result;
}

CUresult memcpy_async(CUdeviceptr to, CUdeviceptr from, std::size_t nbytes, CUstream stream) {
  return in_context([&](const cuda::CudaApi& calls) {
    return calls.MemcpyAsync(pointer(to), pointer(from), nbytes, cudaMemcpyDefault, stream);
  });
}

CUresult memcpy_h2d_async(CUdeviceptr to, const void* from, std::size_t nbytes, CUstream stream) {
  return in_context([&](const cuda::CudaApi& calls) {
    return calls.MemcpyAsync(pointer(to), from, nbytes, cudaMemcpyHostToDevice, stream);
  });
}

CUresult memcpy_d2h_async(void* to, CUdeviceptr from, std::size_t nbytes, CUstream stream) {
  return in_context([&](const cuda::CudaApi& calls) {
    return calls.MemcpyAsync(to, pointer(from), nbytes, cudaMemcpyDeviceToHost, stream);
  });
}

CUresult memcpy_2d_async(const cu::CUDA_MEMCPY2D* copy, CUstream stream) {
  const bool from_the_beginning =
      copy->srcXInBytes == 0 && copy->srcY == 0 && copy->dstXInBytes == 0 && copy->dstY == 0;
  if (!from_the_beginning || copy->srcMemoryType != cu::CU_MEMORYTYPE_HOST ||
      copy->dstMemoryType != cu::CU_MEMORYTYPE_DEVICE) {
    return cudaErrorNotSupported;
  }
  return in_context([&](const cuda::CudaApi& calls) {
    return calls.Memcpy2DAsync(pointer(copy->dstDevice), copy->dstPitch, copy->srcHost,
                               copy->srcPitch, copy->WidthInBytes, copy->Height,
                               cudaMemcpyHostToDevice, stream);
  });
}

CUresult memcpy_batch_async(CUdeviceptr* to, CUdeviceptr* from, std::size_t* nbytes,
                            std::size_t count, cu::CUmemcpyAttributes* attributes,
                            std::size_t* first, std::size_t attribute_count, std::size_t* failed,
                            CUstream stream) {
  if (attribute_count != 1 || first[0] != 0 || stream == nullptr ||
      attributes[0].srcAccessOrder != cu::CU_MEMCPY_SRC_ACCESS_ORDER_STREAM) {
    return cudaErrorInvalidValue;
  }
  std::vector<void*> targets(count);
  std::vector<const void*> sources(count);
  for (std::size_t i = 0; i < count; ++i) {
    targets[i] = pointer(to[i]);
    sources[i] = pointer(from[i]);
  }
  *failed = count;
  return in_context([&](const cuda::CudaApi& calls) {
    return calls.MemcpyBatchAsync(targets.data(), sources.data(), nbytes, count, stream);
  });
}

// ---- errors ---------------------------------------------------------------------------------

CUresult get_error_name(CUresult result, const char** text) {
  *text = process_calls().GetErrorName(static_cast<cudaError_t>(result));
  return cudaSuccess;
}

CUresult get_error_string(CUresult result, const char** text) {
  *text = process_calls().GetErrorString(static_cast<cudaError_t>(result));
  return cudaSuccess;
}

// ---- the list -------------------------------------------------------------------------------

struct Function {
  std::string_view name;
  int version;     // of the release that brought this form
  bool of_stream;  // there is another form for each thread's default stream
  void* address;
};

// Each function must have the type that flatbed declares for it.
template <typename Type>
void* typed(Type* function) {
  return reinterpret_cast<void*>(function);
}
#define FLATBED_FAKE_DRIVER(name, version, of_stream, function)                         \
  Function {                                                                            \
#name, version, of_stream,                                                          \
        typed < std::remove_pointer_t < decltype(cu::DriverFunctions::name)>>(function) \
  }

const auto& functions() {
  using Api = cuda::CudaApi;
  static const std::array kFunctions{
      FLATBED_FAKE_DRIVER(cuInit, 2000, false, init),
      FLATBED_FAKE_DRIVER(cuGetErrorName, 6000, false, get_error_name),
      FLATBED_FAKE_DRIVER(cuGetErrorString, 6000, false, get_error_string),
      FLATBED_FAKE_DRIVER(cuDeviceGet, 2000, false, device_get),
      FLATBED_FAKE_DRIVER(cuDeviceGetCount, 2000, false, device_get_count),
      FLATBED_FAKE_DRIVER(cuDeviceGetName, 2000, false, device_get_name),
      FLATBED_FAKE_DRIVER(cuDeviceGetUuid, 11040, false, device_get_uuid),
      FLATBED_FAKE_DRIVER(cuDeviceTotalMem, 3020, false, device_total_mem),
      FLATBED_FAKE_DRIVER(cuDeviceGetAttribute, 2000, false, device_get_attribute),
      FLATBED_FAKE_DRIVER(cuDeviceGetPCIBusId, 4010, false, device_get_pci_bus_id),
      FLATBED_FAKE_DRIVER(cuDevicePrimaryCtxRetain, 7000, false, primary_ctx_retain),
      FLATBED_FAKE_DRIVER(cuDevicePrimaryCtxRelease, 11000, false, primary_ctx_release),
      FLATBED_FAKE_DRIVER(cuCtxSetCurrent, 4000, false, ctx_set_current),
      FLATBED_FAKE_DRIVER(cuMemGetInfo, 3020, false, &same<&Api::MemGetInfo>),
      FLATBED_FAKE_DRIVER(cuMemAlloc, 3020, false, mem_alloc),
      FLATBED_FAKE_DRIVER(cuMemFree, 3020, false, mem_free),
      FLATBED_FAKE_DRIVER(cuMemHostAlloc, 2020, false, &same<&Api::HostAlloc>),
      FLATBED_FAKE_DRIVER(cuMemFreeHost, 2000, false, &same<&Api::FreeHost>),
      FLATBED_FAKE_DRIVER(cuMemHostRegister, 6050, false, &same<&Api::HostRegister>),
      FLATBED_FAKE_DRIVER(cuMemHostUnregister, 4000, false, &same<&Api::HostUnregister>),
      FLATBED_FAKE_DRIVER(cuPointerGetAttributes, 7000, false, pointer_get_attributes),
      FLATBED_FAKE_DRIVER(cuStreamCreate, 2000, false, &same<&Api::StreamCreateWithFlags>),
      FLATBED_FAKE_DRIVER(cuStreamDestroy, 4000, false, &same<&Api::StreamDestroy>),
      FLATBED_FAKE_DRIVER(cuStreamQuery, 2000, true, &same<&Api::StreamQuery>),
      FLATBED_FAKE_DRIVER(cuStreamWaitEvent, 3020, true, &same<&Api::StreamWaitEvent>),
      FLATBED_FAKE_DRIVER(cuStreamIsCapturing, 10000, true, stream_is_capturing),
      FLATBED_FAKE_DRIVER(cuThreadExchangeStreamCaptureMode, 10010, false,
                          thread_exchange_stream_capture_mode),
      FLATBED_FAKE_DRIVER(cuLaunchHostFunc, 10000, true, &same<&Api::LaunchHostFunc>),
      FLATBED_FAKE_DRIVER(cuMemcpyAsync, 4000, true, memcpy_async),
      FLATBED_FAKE_DRIVER(cuMemcpyHtoDAsync, 3020, true, memcpy_h2d_async),
      FLATBED_FAKE_DRIVER(cuMemcpyDtoHAsync, 3020, true, memcpy_d2h_async),
      FLATBED_FAKE_DRIVER(cuMemcpy2DAsync, 3020, true, memcpy_2d_async),
      FLATBED_FAKE_DRIVER(cuMemcpyBatchAsync, 12080, true, memcpy_batch_async),
      FLATBED_FAKE_DRIVER(cuEventCreate, 2000, false, &same<&Api::EventCreateWithFlags>),
      FLATBED_FAKE_DRIVER(cuEventDestroy, 4000, false, &same<&Api::EventDestroy>),
      FLATBED_FAKE_DRIVER(cuEventRecord, 2000, true, &same<&Api::EventRecord>),
      FLATBED_FAKE_DRIVER(cuEventQuery, 2000, false, &same<&Api::EventQuery>),
      FLATBED_FAKE_DRIVER(cuEventSynchronize, 2000, false, &same<&Api::EventSynchronize>)};
  return kFunctions;
}
#undef FLATBED_FAKE_DRIVER

}  // namespace

void* find_function(std::string_view name, int version, std::uint64_t flags) {
  constexpr std::uint64_t kLegacyStream = 1;
  for (const Function& function : functions()) {
    if (function.name != name) continue;
    if (function.version > process_config().driver_version) return nullptr;
    if (function.version != version) {
      add_misuse(text(name, " of CUDA ", version, ": the form that flatbed declares is of CUDA ",
                      function.version));
    }
    if (function.of_stream && flags != kLegacyStream) {
      add_misuse(text(name, " of the thread's own default stream, or of whichever is the default"));
    }
    return function.address;
  }
  return nullptr;
}

}  // namespace flatbed::fake_cuda
