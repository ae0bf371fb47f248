#include "runtime_api.hpp"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace flatbed::cuda {
namespace {

cudaError_t status_of(::cudaError_t status) { return static_cast<cudaError_t>(status); }

// Enumerations have the runtime's values, everything else its types.
template <typename To, typename From>
To pass(From argument) {
  return static_cast<To>(argument);
}
template <typename To, typename From>
To pass(From* argument) requires(!std::is_same_v<To, From*>) {
  return reinterpret_cast<To>(argument);
}

template <auto kFunction>
struct Same;
template <typename... Theirs, ::cudaError_t (*kFunction)(Theirs...)>
struct Same<kFunction> {
  template <typename... Ours>
  static cudaError_t call(Ours... arguments) {
    return status_of(kFunction(pass<Theirs>(arguments)...));
  }
};

// An entry over a function whose parameters differ from ours in the names of enumerations at most.
template <auto kFunction, typename... Arguments>
void fill(CudaCall<cudaError_t(Arguments...)>& entry) {
  entry = &Same<kFunction>::template call<Arguments...>;
}

cudaError_t get_device_properties(cudaDeviceProp* out, int ordinal) {
  ::cudaDeviceProp found = {};
  const ::cudaError_t status = ::cudaGetDeviceProperties(&found, ordinal);
  *out = {};
  std::copy_n(found.name, std::min(sizeof(found.name), out->name.size()) - 1, out->name.begin());
  static_assert(sizeof(found.uuid) == sizeof(out->uuid));
  std::memcpy(out->uuid.data(), &found.uuid, sizeof(found.uuid));
  out->totalGlobalMem = found.totalGlobalMem;
  out->major = found.major;
  out->minor = found.minor;
  return status_of(status);
}

cudaError_t pointer_get_attributes(cudaPointerAttributes* out, const void* memory) {
  ::cudaPointerAttributes found = {};
  const ::cudaError_t status = ::cudaPointerGetAttributes(&found, memory);
  *out = {static_cast<cudaMemoryType>(found.type), found.device, found.devicePointer,
          found.hostPointer};
  return status_of(status);
}

#if CUDART_VERSION >= 13000  // 12.8 had it with another parameter
cudaError_t memcpy_batch_async(void* const* to, const void* const* from, const std::size_t* nbytes,
                               std::size_t count, cudaStream_t stream) {
  cudaMemcpyAttributes attributes = {};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  std::size_t first_with_attributes = 0;
  return status_of(::cudaMemcpyBatchAsync(to, from, nbytes, count, &attributes,
                                          &first_with_attributes, 1, stream));
}
#endif

const char* get_error_name(cudaError_t status) {
  return ::cudaGetErrorName(static_cast<::cudaError_t>(status));
}

const char* get_error_string(cudaError_t status) {
  return ::cudaGetErrorString(static_cast<::cudaError_t>(status));
}

void fill_devices_and_memory(CudaApi& table) {
  fill<::cudaGetDeviceCount>(table.GetDeviceCount);
  table.GetDeviceProperties = get_device_properties;
  fill<::cudaDeviceGetAttribute>(table.DeviceGetAttribute);
  fill<::cudaDeviceGetPCIBusId>(table.DeviceGetPCIBusId);
  fill<::cudaSetDevice>(table.SetDevice);
  fill<::cudaMemGetInfo>(table.MemGetInfo);
  fill<::cudaMalloc>(table.Malloc);
  fill<::cudaFree>(table.Free);
  fill<::cudaHostAlloc>(table.HostAlloc);
  fill<::cudaFreeHost>(table.FreeHost);
  fill<::cudaHostRegister>(table.HostRegister);
  fill<::cudaHostUnregister>(table.HostUnregister);
  table.PointerGetAttributes = pointer_get_attributes;
}

void fill_streams(CudaApi& table) {
  fill<::cudaStreamCreateWithFlags>(table.StreamCreateWithFlags);
  fill<::cudaStreamDestroy>(table.StreamDestroy);
  fill<::cudaStreamQuery>(table.StreamQuery);
  fill<::cudaStreamWaitEvent>(table.StreamWaitEvent);
  fill<::cudaStreamIsCapturing>(table.StreamIsCapturing);
  fill<::cudaThreadExchangeStreamCaptureMode>(table.ThreadExchangeStreamCaptureMode);
  fill<::cudaLaunchHostFunc>(table.LaunchHostFunc);
  fill<::cudaMemcpyAsync>(table.MemcpyAsync);
  fill<::cudaMemcpy2DAsync>(table.Memcpy2DAsync);
#if CUDART_VERSION >= 13000
  table.MemcpyBatchAsync = memcpy_batch_async;
#endif
  fill<::cudaEventCreateWithFlags>(table.EventCreateWithFlags);
  fill<::cudaEventDestroy>(table.EventDestroy);
  fill<::cudaEventRecord>(table.EventRecord);
  fill<::cudaEventQuery>(table.EventQuery);
  fill<::cudaEventSynchronize>(table.EventSynchronize);
}

}  // namespace

std::shared_ptr<const CudaApi> runtime_api() {
  const auto table = std::make_shared<CudaApi>();
  fill_devices_and_memory(*table);
  fill_streams(*table);
  fill<::cudaGetLastError>(table->GetLastError);
  fill<::cudaPeekAtLastError>(table->PeekAtLastError);
  table->GetErrorName = get_error_name;
  table->GetErrorString = get_error_string;
  return table;
}

}  // namespace flatbed::cuda
