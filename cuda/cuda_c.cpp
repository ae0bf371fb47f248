// GPUs for C: flatbed_cuda.h.
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "c/arguments.hpp"
#include "c/callbacks.hpp"
#include "c/guard.hpp"
#include "flatbed/c_handles.hpp"
#include "flatbed/cuda.hpp"
#include "flatbed/flatbed_cuda.h"

namespace flatbed::c {

FLATBED_FIRST_SIZE(flatbed_cuda_options, 56);

namespace {

flatbed_cuda_device_info info_to_c(const CudaDeviceInfo& info) {
  flatbed_cuda_device_info given{};
  given.struct_size = sizeof given;
  given.name = to_c(info.name);
  given.pci_bus_id = to_c(info.pci_bus_id);
  std::memcpy(given.uuid, info.uuid.data(), sizeof given.uuid);
  given.memory_nbytes = info.memory_nbytes;
  given.free_nbytes = info.free_nbytes.value_or(0);
  given.ordinal = info.ordinal;
  given.compute_major = info.compute_major;
  given.compute_minor = info.compute_minor;
  given.numa_node = info.numa_node;
  return given;
}

Result<std::optional<EngineStream>> read_stream(const flatbed_cuda_stream& given,
                                                std::string_view parameter) {
  const auto wrong = [&](std::string_view found) {
    return Error{ErrorCode::invalid_argument,
                 "argument '" + std::string(parameter) + "': found " + std::string(found)};
  };
  FLATBED_TRY(check_reserved(given.reserved, parameter));
  const bool created = given.kind == FLATBED_CUDA_STREAM_CREATED;
  if (created && given.handle == nullptr) return wrong("a NULL handle for a created stream");
  if (!created && given.handle != nullptr) return wrong("a handle for a stream of another kind");
  switch (given.kind) {
    case FLATBED_CUDA_STREAM_NONE:
      return std::optional<EngineStream>();
    case FLATBED_CUDA_STREAM_CREATED:
      return std::optional(EngineStream::created(given.handle));
    case FLATBED_CUDA_STREAM_LEGACY:
      return std::optional(EngineStream::legacy());
    case FLATBED_CUDA_STREAM_PER_THREAD:
      return std::optional(EngineStream::per_thread());
    default:
      return wrong("the kind " + std::to_string(given.kind) + ", expected at most 3");
  }
}

Result<CudaDeviceOptions> read_cuda_options(const flatbed_cuda_options* given) {
  FLATBED_ASSIGN(const flatbed_cuda_options read, read_options(given));
  CudaDeviceOptions options;
  FLATBED_ASSIGN(options.stream, read_stream(read.stream, "options.stream"));
  FLATBED_ASSIGN(options.order_after, read_stream(read.order_after, "options.order_after"));
  FLATBED_ASSIGN(options.order_before, read_stream(read.order_before, "options.order_before"));
  return options;
}

Result<void> make_device(int32_t ordinal, const CudaDeviceOptions& options, flatbed_device** out) {
  FLATBED_ASSIGN(std::unique_ptr<Device> device, cuda_device(ordinal, options));
  *out = flatbed::to_c(std::move(device));
  return {};
}

Result<void> clear_device(flatbed_device** out) {
  if (out == nullptr) {
    return Error{ErrorCode::invalid_argument, "argument 'out': found NULL"};
  }
  *out = nullptr;
  return {};
}

}  // namespace
}  // namespace flatbed::c

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

int32_t flatbed_cuda_device_infos(uint32_t ask_free,
                                  int32_t (*device)(void* context,
                                                    const flatbed_cuda_device_info* info),
                                  void* context, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    if (device == nullptr || ask_free > 1) {
      return flatbed::Error{ErrorCode::invalid_argument,
                            device == nullptr ? "argument 'device': found NULL"
                                              : "argument 'ask_free': found a number above 1"};
    }
    FLATBED_ASSIGN(const std::vector<flatbed::CudaDeviceInfo> devices,
                   flatbed::cuda_devices(static_cast<flatbed::FreeMemory>(ask_free)));
    for (const flatbed::CudaDeviceInfo& info : devices) {
      const flatbed_cuda_device_info given = flatbed::c::info_to_c(info);
      FLATBED_TRY(flatbed::c::callback_result(device(context, &given), "the caller's device",
                                              ErrorCode::cancelled));
    }
    return {};
  });
}

int32_t flatbed_device_cuda(int32_t ordinal, void* stream, flatbed_device** out,
                            flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(flatbed::c::clear_device(out));
    flatbed::CudaDeviceOptions options;
    if (stream != nullptr) options.stream = flatbed::EngineStream::created(stream);
    return flatbed::c::make_device(ordinal, options, out);
  });
}

int32_t flatbed_device_cuda_with(int32_t ordinal, const flatbed_cuda_options* options,
                                 flatbed_device** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(flatbed::c::clear_device(out));
    FLATBED_ASSIGN(const flatbed::CudaDeviceOptions read, flatbed::c::read_cuda_options(options));
    return flatbed::c::make_device(ordinal, read, out);
  });
}
