// Cancelling, devices, their memory and staging pools, in flatbed.h.
#include "base/str_cat.hpp"
#include "c/caller_device.hpp"
#include "c/guard.hpp"
#include "c/handles.hpp"
#include "flatbed/c_handles.hpp"

namespace flatbed {

flatbed_device* to_c(std::unique_ptr<Device> device) {
  if (device == nullptr) return nullptr;
  return std::make_unique<flatbed_device>(std::move(device)).release();
}

}  // namespace flatbed

using flatbed::Result;
using flatbed::c::check;
using flatbed::c::clear_out;
using flatbed::c::free_handle;
using flatbed::c::guarded;
using flatbed::c::is_handle;

int32_t flatbed_cancel_new(flatbed_cancel** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    *out = std::make_unique<flatbed_cancel>().release();
    return {};
  });
}

void flatbed_cancel_free(flatbed_cancel* cancel) { free_handle(cancel); }

void flatbed_cancel_set(flatbed_cancel* cancel) {
  if (is_handle(cancel)) cancel->requested.store(true);
}

void flatbed_cancel_reset(flatbed_cancel* cancel) {
  if (is_handle(cancel)) cancel->requested.store(false);
}

int32_t flatbed_device_host(flatbed_device** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    *out = flatbed::to_c(flatbed::host_device());
    return {};
  });
}

int32_t flatbed_device_custom(const flatbed_device_ops* ops, flatbed_device** out,
                              flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_ASSIGN(std::unique_ptr<flatbed::c::CallerDevice> device,
                   flatbed::c::CallerDevice::make(ops));
    *out = flatbed::to_c(std::move(device));
    return {};
  });
}

void flatbed_device_free(flatbed_device* device) { free_handle(device); }

flatbed_string flatbed_device_name(const flatbed_device* device) {
  if (!is_handle(device)) return {nullptr, 0};
  return flatbed::c::to_c(device->device->name());
}

int32_t flatbed_buffer_new(const flatbed_device* device, uint64_t nbytes, flatbed_buffer** out,
                           flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_TRY(check(device, "device"));
    FLATBED_ASSIGN(flatbed::DeviceBuffer buffer,
                   flatbed::DeviceBuffer::allocate(*device->device, nbytes));
    auto owned = std::make_shared<const flatbed_buffer::Owned>(
        flatbed_buffer::Owned{device->device, std::move(buffer)});
    *out = std::make_unique<flatbed_buffer>(std::move(owned)).release();
    return {};
  });
}

void flatbed_buffer_free(flatbed_buffer* buffer) { free_handle(buffer); }

void* flatbed_buffer_data(const flatbed_buffer* buffer) {
  return is_handle(buffer) ? buffer->owned->buffer.data() : nullptr;
}

uint64_t flatbed_buffer_nbytes(const flatbed_buffer* buffer) {
  return is_handle(buffer) ? buffer->owned->buffer.nbytes() : 0;
}

int32_t flatbed_buffer_read(const flatbed_buffer* buffer, uint64_t offset, void* out,
                            uint64_t nbytes, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check(buffer, "buffer"));
    FLATBED_TRY(flatbed::c::check_bytes(out, nbytes, "out"));
    const uint64_t size = buffer->owned->buffer.nbytes();
    if (nbytes > size || offset > size - nbytes) {
      return flatbed::make_error(flatbed::ErrorCode::buffer_too_small,
                                 buffer->owned->device->name(), ": read out of range: found ",
                                 nbytes, " bytes at ", offset, ", the buffer has ", size);
    }
    return buffer->owned->device->memory()->read_back(buffer->owned->buffer.data() + offset,
                                                      {static_cast<std::byte*>(out), nbytes});
  });
}

int32_t flatbed_staging_pool_new(const flatbed_device* device, uint64_t staging_nbytes,
                                 uint64_t slot_nbytes, flatbed_staging_pool** out,
                                 flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_TRY(check(device, "device"));
    flatbed::StagingOptions options;
    if (staging_nbytes != 0) options.staging_nbytes = staging_nbytes;
    if (slot_nbytes != 0) options.slot_nbytes = slot_nbytes;
    FLATBED_ASSIGN(std::unique_ptr<flatbed::StagingPool> pool,
                   flatbed::StagingPool::create(*device->device, options));
    *out = std::make_unique<flatbed_staging_pool>(device->device, std::move(pool)).release();
    return {};
  });
}

void flatbed_staging_pool_free(flatbed_staging_pool* pool) { free_handle(pool); }

uint64_t flatbed_staging_pool_peak_nbytes(const flatbed_staging_pool* pool) {
  return is_handle(pool) ? pool->pool->peak_nbytes() : 0;
}
