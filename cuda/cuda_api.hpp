// CudaApi: a table of every CUDA function that this component calls, in the form that the CUDA
// runtime gives it. FLATBED_CUDART chooses what fills it: the driver, found at run time
// (driver_api.hpp, the default), or the runtime that this component is linked with
// (runtime_api.hpp). Tests fill one with a fake. Plain data; the functions are thread-safe as
// CUDA's are.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>

#include "cuda_types.hpp"
#include "flatbed/result.hpp"

namespace flatbed::cuda {

// A function of the table: one that needs nothing else, or one with the state that it works on,
// which must outlive it. May be empty.
template <typename Signature>
class CudaCall;

template <typename Return, typename... Arguments>
class CudaCall<Return(Arguments...)> {
 public:
  using Plain = Return (*)(Arguments...);

  constexpr CudaCall() = default;
  // Also from a lambda without captures.
  template <typename Function>
  requires std::is_convertible_v<Function, Plain>
  constexpr CudaCall(Function function) : plain_(function) {}

  // Of a function whose first parameter is a `const State&`.
  template <auto kFunction, typename State>
  [[nodiscard]] static constexpr CudaCall bind(const State& state) noexcept {
    CudaCall call;
    call.state_ = &state;
    call.bound_ = [](const void* given, Arguments... arguments) -> Return {
      return kFunction(*static_cast<const State*>(given), arguments...);
    };
    return call;
  }

  Return operator()(Arguments... arguments) const {
    return bound_ != nullptr ? bound_(state_, arguments...) : plain_(arguments...);
  }
  [[nodiscard]] constexpr explicit operator bool() const noexcept {
    return plain_ != nullptr || bound_ != nullptr;
  }

 private:
  Plain plain_ = nullptr;
  Return (*bound_)(const void*, Arguments...) = nullptr;
  const void* state_ = nullptr;
};

// The runtime's names without "cuda". Each has the parameters of the runtime's function, except
// where a comment says otherwise.
struct CudaApi {
  template <typename... Arguments>
  using Call = CudaCall<cudaError_t(Arguments...)>;

  Call<int*> GetDeviceCount;
  Call<cudaDeviceProp*, int> GetDeviceProperties;
  Call<int*, cudaDeviceAttr, int> DeviceGetAttribute;
  Call<char*, int, int> DeviceGetPCIBusId;
  Call<int> SetDevice;
  Call<std::size_t*, std::size_t*> MemGetInfo;
  Call<void**, std::size_t> Malloc;
  Call<void*> Free;
  Call<void**, std::size_t, unsigned> HostAlloc;
  Call<void*> FreeHost;
  Call<void*, std::size_t, unsigned> HostRegister;
  Call<void*> HostUnregister;
  Call<cudaPointerAttributes*, const void*> PointerGetAttributes;
  Call<cudaStream_t*, unsigned> StreamCreateWithFlags;
  Call<cudaStream_t> StreamDestroy;
  Call<cudaStream_t> StreamQuery;
  Call<cudaStream_t, cudaEvent_t, unsigned> StreamWaitEvent;
  Call<cudaStream_t, cudaStreamCaptureStatus*> StreamIsCapturing;
  Call<cudaStreamCaptureMode*> ThreadExchangeStreamCaptureMode;
  Call<cudaStream_t, cudaHostFn_t, void*> LaunchHostFunc;
  Call<void*, const void*, std::size_t, cudaMemcpyKind, cudaStream_t> MemcpyAsync;
  Call<void*, std::size_t, const void*, std::size_t, std::size_t, std::size_t, cudaMemcpyKind,
       cudaStream_t>
      Memcpy2DAsync;
  // Copies sizes[i] bytes from from[i] to to[i], for i < count; sources are read in the stream's
  // order. Empty where the driver is older than CUDA 12.8, or the runtime than 13. The stream must
  // not be a default stream. After an error some of the copies may be queued.
  Call<void* const*, const void* const*, const std::size_t*, std::size_t, cudaStream_t>
      MemcpyBatchAsync;
  Call<cudaEvent_t*, unsigned> EventCreateWithFlags;
  Call<cudaEvent_t> EventDestroy;
  Call<cudaEvent_t, cudaStream_t> EventRecord;
  Call<cudaEvent_t> EventQuery;
  Call<cudaEvent_t> EventSynchronize;
  // The driver keeps no last error: filled from it, these two return cudaSuccess.
  Call<> GetLastError;
  Call<> PeekAtLastError;
  CudaCall<const char*(cudaError_t)> GetErrorName;
  CudaCall<const char*(cudaError_t)> GetErrorString;
};

// The table that FLATBED_CUDART chooses. Errors: device_unavailable (no driver, or one that is too
// old).
[[nodiscard]] Result<std::shared_ptr<const CudaApi>> open_cuda_api();

}  // namespace flatbed::cuda
