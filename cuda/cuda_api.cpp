#include "cuda_api.hpp"

namespace flatbed::cuda {
namespace {

cudaError_t memcpy_batch_async(void* const* to, const void* const* from, const size_t* nbytes,
                               size_t count, cudaStream_t stream) {
  cudaMemcpyAttributes attributes = {};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  size_t first = 0;
  return cudaMemcpyBatchAsync(to, from, nbytes, count, &attributes, &first, 1, stream);
}

// Constant data: nothing runs before main or after it.
constexpr CudaApi kLinked{
    .GetDeviceCount = cudaGetDeviceCount,
    .GetDeviceProperties = cudaGetDeviceProperties,
    .DeviceGetAttribute = cudaDeviceGetAttribute,
    .DeviceGetPCIBusId = cudaDeviceGetPCIBusId,
    .SetDevice = cudaSetDevice,
    .MemGetInfo = cudaMemGetInfo,
    .Malloc = cudaMalloc,
    .Free = cudaFree,
    .HostAlloc = cudaHostAlloc,
    .FreeHost = cudaFreeHost,
    .HostRegister = cudaHostRegister,
    .HostUnregister = cudaHostUnregister,
    .PointerGetAttributes = cudaPointerGetAttributes,
    .StreamCreateWithFlags = cudaStreamCreateWithFlags,
    .StreamDestroy = cudaStreamDestroy,
    .StreamQuery = cudaStreamQuery,
    .StreamWaitEvent = cudaStreamWaitEvent,
    .StreamIsCapturing = cudaStreamIsCapturing,
    .ThreadExchangeStreamCaptureMode = cudaThreadExchangeStreamCaptureMode,
    .LaunchHostFunc = cudaLaunchHostFunc,
    .MemcpyAsync = cudaMemcpyAsync,
    .Memcpy2DAsync = cudaMemcpy2DAsync,
    .MemcpyBatchAsync = memcpy_batch_async,
    .EventCreateWithFlags = cudaEventCreateWithFlags,
    .EventDestroy = cudaEventDestroy,
    .EventRecord = cudaEventRecord,
    .EventQuery = cudaEventQuery,
    .GetLastError = cudaGetLastError,
    .PeekAtLastError = cudaPeekAtLastError,
    .GetErrorName = cudaGetErrorName,
    .GetErrorString = cudaGetErrorString,
};

}  // namespace

const CudaApi& linked_cuda_api() noexcept { return kLinked; }

}  // namespace flatbed::cuda
