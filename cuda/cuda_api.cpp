#include "cuda_api.hpp"

namespace flatbed::cuda {
namespace {

// Constant data: nothing runs before main or after it.
constexpr CudaApi kLinked{
    .GetDeviceCount = cudaGetDeviceCount,
    .GetDeviceProperties = cudaGetDeviceProperties,
    .SetDevice = cudaSetDevice,
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
    .MemcpyAsync = cudaMemcpyAsync,
    .Memcpy2DAsync = cudaMemcpy2DAsync,
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
