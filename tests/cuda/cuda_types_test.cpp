// cuda/cuda_types.hpp and cuda/driver_functions.hpp against the headers of the CUDA Toolkit: names,
// values and layouts. Compiled where the toolkit is found, together with runtime_api.cpp.
//
// The toolkit's headers come after flatbed's, whose names are macros in them.
// clang-format off
#include "cuda/cuda_types.hpp"
#include "cuda/driver_functions.hpp"
#include "cuda/runtime_api.hpp"

namespace flatbed::cuda {
namespace {
constexpr unsigned kOurFlags[] = {cudaStreamNonBlocking, cudaEventBlockingSync,
                                  cudaEventDisableTiming, cudaHostAllocPortable,
                                  cudaHostRegisterPortable};
cudaStream_t our_legacy_stream() { return cudaStreamLegacy; }
cudaStream_t our_per_thread_stream() { return cudaStreamPerThread; }
}  // namespace
}  // namespace flatbed::cuda

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>
// clang-format on

#include <cstddef>
#include <string>
#include <type_traits>

namespace flatbed::cuda {
namespace {

#define FLATBED_SAME(name) static_assert(static_cast<int>(name) == static_cast<int>(::name))
FLATBED_SAME(cudaSuccess);
FLATBED_SAME(cudaErrorInvalidValue);
FLATBED_SAME(cudaErrorMemoryAllocation);
FLATBED_SAME(cudaErrorInitializationError);
FLATBED_SAME(cudaErrorCudartUnloading);
FLATBED_SAME(cudaErrorInvalidConfiguration);
FLATBED_SAME(cudaErrorStubLibrary);
FLATBED_SAME(cudaErrorInsufficientDriver);
FLATBED_SAME(cudaErrorCallRequiresNewerDriver);
FLATBED_SAME(cudaErrorDevicesUnavailable);
FLATBED_SAME(cudaErrorNoDevice);
FLATBED_SAME(cudaErrorInvalidDevice);
FLATBED_SAME(cudaErrorECCUncorrectable);
FLATBED_SAME(cudaErrorInvalidResourceHandle);
FLATBED_SAME(cudaErrorNotReady);
FLATBED_SAME(cudaErrorIllegalAddress);
FLATBED_SAME(cudaErrorContextIsDestroyed);
FLATBED_SAME(cudaErrorHostMemoryAlreadyRegistered);
FLATBED_SAME(cudaErrorHostMemoryNotRegistered);
FLATBED_SAME(cudaErrorLaunchFailure);
FLATBED_SAME(cudaErrorNotPermitted);
FLATBED_SAME(cudaErrorNotSupported);
FLATBED_SAME(cudaErrorSystemNotReady);
FLATBED_SAME(cudaErrorSystemDriverMismatch);
FLATBED_SAME(cudaErrorCompatNotSupportedOnDevice);
FLATBED_SAME(cudaErrorMpsConnectionFailed);
FLATBED_SAME(cudaErrorMpsServerNotReady);
FLATBED_SAME(cudaErrorMpsMaxClientsReached);
FLATBED_SAME(cudaErrorMpsMaxConnectionsReached);
FLATBED_SAME(cudaErrorStreamCaptureUnsupported);
FLATBED_SAME(cudaErrorStreamCaptureInvalidated);
FLATBED_SAME(cudaErrorStreamCaptureIsolation);
FLATBED_SAME(cudaErrorStreamCaptureImplicit);
FLATBED_SAME(cudaErrorStreamCaptureWrongThread);
FLATBED_SAME(cudaErrorUnknown);
FLATBED_SAME(cudaMemcpyHostToHost);
FLATBED_SAME(cudaMemcpyHostToDevice);
FLATBED_SAME(cudaMemcpyDeviceToHost);
FLATBED_SAME(cudaMemcpyDeviceToDevice);
FLATBED_SAME(cudaMemcpyDefault);
FLATBED_SAME(cudaMemoryTypeUnregistered);
FLATBED_SAME(cudaMemoryTypeHost);
FLATBED_SAME(cudaMemoryTypeDevice);
FLATBED_SAME(cudaMemoryTypeManaged);
FLATBED_SAME(cudaStreamCaptureStatusNone);
FLATBED_SAME(cudaStreamCaptureStatusActive);
FLATBED_SAME(cudaStreamCaptureStatusInvalidated);
FLATBED_SAME(cudaStreamCaptureModeGlobal);
FLATBED_SAME(cudaStreamCaptureModeThreadLocal);
FLATBED_SAME(cudaStreamCaptureModeRelaxed);
FLATBED_SAME(cudaDevAttrIntegrated);
FLATBED_SAME(cudaDevAttrPciBusId);
FLATBED_SAME(cudaDevAttrPciDeviceId);
FLATBED_SAME(cudaDevAttrPciDomainId);
FLATBED_SAME(cudaDevAttrComputeCapabilityMajor);
FLATBED_SAME(cudaDevAttrComputeCapabilityMinor);
FLATBED_SAME(cudaDevAttrManagedMemory);
FLATBED_SAME(cudaDevAttrPageableMemoryAccess);
FLATBED_SAME(cudaDevAttrConcurrentManagedAccess);
FLATBED_SAME(cudaDevAttrPageableMemoryAccessUsesHostPageTables);
FLATBED_SAME(cudaDevAttrHostNumaId);
#undef FLATBED_SAME
static_assert(std::is_same_v<cudaStream_t, ::cudaStream_t>);
static_assert(std::is_same_v<cudaEvent_t, ::cudaEvent_t>);
static_assert(std::is_same_v<cudaHostFn_t, ::cudaHostFn_t>);
static_assert(kOurFlags[0] == cudaStreamNonBlocking && kOurFlags[1] == cudaEventBlockingSync &&
              kOurFlags[2] == cudaEventDisableTiming && kOurFlags[3] == cudaHostAllocPortable &&
              kOurFlags[4] == cudaHostRegisterPortable);

// The driver's values under the runtime's names, and its own.
static_assert(CUDA_ERROR_INVALID_VALUE == 1 && CUDA_ERROR_OUT_OF_MEMORY == 2 &&
              CUDA_ERROR_NOT_INITIALIZED == 3 && CUDA_ERROR_DEINITIALIZED == 4);
static_assert(CUDA_ERROR_STUB_LIBRARY == 34 && CUDA_ERROR_DEVICE_UNAVAILABLE == 46 &&
              CUDA_ERROR_NO_DEVICE == 100 && CUDA_ERROR_INVALID_DEVICE == 101);
static_assert(CUDA_ERROR_ECC_UNCORRECTABLE == 214 && CUDA_ERROR_INVALID_HANDLE == 400 &&
              CUDA_ERROR_NOT_READY == 600 && CUDA_ERROR_ILLEGAL_ADDRESS == 700);
static_assert(CUDA_ERROR_CONTEXT_IS_DESTROYED == 709 &&
              CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED == 712 &&
              CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED == 713 && CUDA_ERROR_LAUNCH_FAILED == 719);
static_assert(CUDA_ERROR_NOT_PERMITTED == 800 && CUDA_ERROR_NOT_SUPPORTED == 801 &&
              CUDA_ERROR_SYSTEM_NOT_READY == 802 && CUDA_ERROR_SYSTEM_DRIVER_MISMATCH == 803 &&
              CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE == 804);
static_assert(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED == 900 &&
              CUDA_ERROR_STREAM_CAPTURE_INVALIDATED == 901 &&
              CUDA_ERROR_STREAM_CAPTURE_ISOLATION == 905 &&
              CUDA_ERROR_STREAM_CAPTURE_IMPLICIT == 906 &&
              CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD == 908 && CUDA_ERROR_UNKNOWN == 999);
static_assert(CU_STREAM_NON_BLOCKING == 1 && CU_EVENT_BLOCKING_SYNC == 1 &&
              CU_EVENT_DISABLE_TIMING == 2 && CU_MEMHOSTALLOC_PORTABLE == 1 &&
              CU_MEMHOSTREGISTER_PORTABLE == 1 && CU_GET_PROC_ADDRESS_LEGACY_STREAM == 1);
constexpr bool same(int theirs, int ours) { return theirs == ours; }
static_assert(same(CU_DEVICE_ATTRIBUTE_INTEGRATED, cudaDevAttrIntegrated) &&
              same(CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, cudaDevAttrPciBusId) &&
              same(CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID, cudaDevAttrPciDeviceId) &&
              same(CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID, cudaDevAttrPciDomainId) &&
              same(CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, cudaDevAttrManagedMemory) &&
              same(CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID, cudaDevAttrHostNumaId));
static_assert(
    same(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, cudaDevAttrComputeCapabilityMajor) &&
    same(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, cudaDevAttrComputeCapabilityMinor) &&
    same(CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS, cudaDevAttrPageableMemoryAccess) &&
    same(CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, cudaDevAttrConcurrentManagedAccess) &&
    same(CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES,
         cudaDevAttrPageableMemoryAccessUsesHostPageTables));
static_assert(same(CU_STREAM_CAPTURE_STATUS_ACTIVE, cudaStreamCaptureStatusActive) &&
              same(CU_STREAM_CAPTURE_STATUS_INVALIDATED, cudaStreamCaptureStatusInvalidated) &&
              same(CU_STREAM_CAPTURE_MODE_GLOBAL, cudaStreamCaptureModeGlobal) &&
              same(CU_STREAM_CAPTURE_MODE_RELAXED, cudaStreamCaptureModeRelaxed));
static_assert(driver::CU_MEMORYTYPE_HOST == ::CU_MEMORYTYPE_HOST &&
              driver::CU_MEMORYTYPE_DEVICE == ::CU_MEMORYTYPE_DEVICE);
static_assert(driver::CU_POINTER_ATTRIBUTE_MEMORY_TYPE == ::CU_POINTER_ATTRIBUTE_MEMORY_TYPE &&
              driver::CU_POINTER_ATTRIBUTE_DEVICE_POINTER ==
                  ::CU_POINTER_ATTRIBUTE_DEVICE_POINTER &&
              driver::CU_POINTER_ATTRIBUTE_HOST_POINTER == ::CU_POINTER_ATTRIBUTE_HOST_POINTER);
static_assert(driver::CU_POINTER_ATTRIBUTE_IS_MANAGED == ::CU_POINTER_ATTRIBUTE_IS_MANAGED &&
              driver::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL == ::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL);
static_assert(std::is_same_v<driver::CUdeviceptr, ::CUdeviceptr>);
static_assert(std::is_same_v<driver::CUdevice, ::CUdevice>);
static_assert(std::is_same_v<driver::CUcontext, ::CUcontext>);
static_assert(std::is_same_v<driver::CUstream, ::CUstream>);
static_assert(std::is_same_v<driver::CUevent, ::CUevent>);
static_assert(sizeof(driver::CUresult) == sizeof(::CUresult));

using Ours = driver::CUDA_MEMCPY2D;
using Theirs = ::CUDA_MEMCPY2D;
static_assert(sizeof(Ours) == sizeof(Theirs) &&
              offsetof(Ours, srcMemoryType) == offsetof(Theirs, srcMemoryType) &&
              offsetof(Ours, srcHost) == offsetof(Theirs, srcHost) &&
              offsetof(Ours, srcPitch) == offsetof(Theirs, srcPitch) &&
              offsetof(Ours, dstMemoryType) == offsetof(Theirs, dstMemoryType) &&
              offsetof(Ours, dstDevice) == offsetof(Theirs, dstDevice) &&
              offsetof(Ours, dstPitch) == offsetof(Theirs, dstPitch) &&
              offsetof(Ours, WidthInBytes) == offsetof(Theirs, WidthInBytes) &&
              offsetof(Ours, Height) == offsetof(Theirs, Height));
#if CUDA_VERSION >= 12080
static_assert(driver::CU_MEMCPY_SRC_ACCESS_ORDER_STREAM == ::CU_MEMCPY_SRC_ACCESS_ORDER_STREAM);
static_assert(sizeof(driver::CUmemcpyAttributes) == sizeof(::CUmemcpyAttributes) &&
              offsetof(driver::CUmemcpyAttributes, dstLocHint) ==
                  offsetof(::CUmemcpyAttributes, dstLocHint) &&
              offsetof(driver::CUmemcpyAttributes, flags) == offsetof(::CUmemcpyAttributes, flags));
#endif

TEST(CudaTypes, HaveTheDefaultStreamsOfTheToolkit) {
  EXPECT_EQ(our_legacy_stream(), cudaStreamLegacy);
  EXPECT_EQ(our_per_thread_stream(), cudaStreamPerThread);
}

// The runtime that is linked with FLATBED_CUDART=static fills the whole table, and without a driver
// says so.
TEST(RuntimeApi, FillsTheTable) {
  const auto api = runtime_api();
  int count = -1;
  const cudaError_t status = api->GetDeviceCount(&count);
  if (status != cudaSuccess) {
    EXPECT_EQ(api->PeekAtLastError(), status);
    EXPECT_EQ(api->GetLastError(), status);
    EXPECT_EQ(std::string(api->GetErrorName(status)).rfind("cudaError", 0), 0U);
    EXPECT_NE(std::string(api->GetErrorString(status)), "");
  } else {
    EXPECT_GT(count, 0);
  }
}

}  // namespace
}  // namespace flatbed::cuda
