// GPUs for C: flatbed_cuda.h.
#include <string_view>

#include "c/callbacks.hpp"
#include "c/guard.hpp"
#include "flatbed/c_handles.hpp"
#include "flatbed/cuda.hpp"
#include "flatbed/flatbed_cuda.h"

using flatbed::ErrorCode;
using flatbed::Result;
using flatbed::c::guarded;

int32_t flatbed_cuda_devices(int32_t (*device)(void* context, int32_t ordinal, flatbed_string name,
                                               uint64_t memory_nbytes, int32_t compute_major,
                                               int32_t compute_minor),
                             void* context, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    if (device == nullptr) {
      return flatbed::Error{ErrorCode::invalid_argument, "argument 'device': found NULL"};
    }
    FLATBED_ASSIGN(const std::vector<flatbed::CudaDeviceInfo> devices, flatbed::cuda_devices());
    for (const flatbed::CudaDeviceInfo& info : devices) {
      const int32_t code = device(context, info.ordinal, {info.name.data(), info.name.size()},
                                  info.memory_nbytes, info.compute_major, info.compute_minor);
      FLATBED_TRY(flatbed::c::callback_result(code, "the caller's device", ErrorCode::cancelled));
    }
    return {};
  });
}

int32_t flatbed_device_cuda(int32_t ordinal, void* stream, flatbed_device** out,
                            flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    if (out == nullptr) {
      return flatbed::Error{ErrorCode::invalid_argument, "argument 'out': found NULL"};
    }
    *out = nullptr;
    FLATBED_ASSIGN(std::unique_ptr<flatbed::Device> device,
                   flatbed::cuda_device(ordinal, {.stream = stream}));
    *out = flatbed::to_c(std::move(device));
    return {};
  });
}
