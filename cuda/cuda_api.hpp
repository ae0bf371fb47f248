// CudaApi: a table of every function of the CUDA runtime that this component calls. The linker
// fills the real table (cuda_api.cpp, FLATBED_CUDART=static|shared); tests fill one with a fake.
// Plain data; the entries are thread-safe as CUDA's are.
#pragma once

#include <cuda_runtime_api.h>

namespace flatbed::cuda {

// The C names, without the overloads of the C++ header.
struct CudaApi {
  cudaError_t (*GetDeviceCount)(int*);
  cudaError_t (*GetDeviceProperties)(cudaDeviceProp*, int);
  cudaError_t (*DeviceGetAttribute)(int*, cudaDeviceAttr, int);
  cudaError_t (*DeviceGetPCIBusId)(char*, int, int);
  cudaError_t (*SetDevice)(int);
  cudaError_t (*MemGetInfo)(size_t*, size_t*);
  cudaError_t (*Malloc)(void**, size_t);
  cudaError_t (*Free)(void*);
  cudaError_t (*HostAlloc)(void**, size_t, unsigned int);
  cudaError_t (*FreeHost)(void*);
  cudaError_t (*HostRegister)(void*, size_t, unsigned int);
  cudaError_t (*HostUnregister)(void*);
  cudaError_t (*PointerGetAttributes)(cudaPointerAttributes*, const void*);
  cudaError_t (*StreamCreateWithFlags)(cudaStream_t*, unsigned int);
  cudaError_t (*StreamDestroy)(cudaStream_t);
  cudaError_t (*StreamQuery)(cudaStream_t);
  cudaError_t (*StreamWaitEvent)(cudaStream_t, cudaEvent_t, unsigned int);
  cudaError_t (*StreamIsCapturing)(cudaStream_t, cudaStreamCaptureStatus*);
  cudaError_t (*ThreadExchangeStreamCaptureMode)(cudaStreamCaptureMode*);
  cudaError_t (*LaunchHostFunc)(cudaStream_t, cudaHostFn_t, void*);
  cudaError_t (*MemcpyAsync)(void*, const void*, size_t, cudaMemcpyKind, cudaStream_t);
  cudaError_t (*Memcpy2DAsync)(void*, size_t, const void*, size_t, size_t, size_t, cudaMemcpyKind,
                               cudaStream_t);
  // Copies sizes[i] bytes from from[i] to to[i], for i < count; sources are read in the stream's
  // order. Empty where CUDA is older than 12.8. The stream must not be a default stream. After an
  // error some of the copies may be queued.
  cudaError_t (*MemcpyBatchAsync)(void* const*, const void* const*, const size_t*, size_t,
                                  cudaStream_t);
  cudaError_t (*EventCreateWithFlags)(cudaEvent_t*, unsigned int);
  cudaError_t (*EventDestroy)(cudaEvent_t);
  cudaError_t (*EventRecord)(cudaEvent_t, cudaStream_t);
  cudaError_t (*EventQuery)(cudaEvent_t);
  cudaError_t (*GetLastError)();
  cudaError_t (*PeekAtLastError)();
  const char* (*GetErrorName)(cudaError_t);
  const char* (*GetErrorString)(cudaError_t);
};

// The runtime that this component is linked with.
[[nodiscard]] const CudaApi& linked_cuda_api() noexcept;

}  // namespace flatbed::cuda
