// Computes the XXH3-64 of bytes on a device. Host memory is hashed in place. Other memory is copied
// back in pieces, so that a digest needs 8 MiB whatever the tensor's size.
#pragma once

#include <cstddef>
#include <cstdint>

#include "flatbed/device.hpp"
#include "flatbed/result.hpp"

namespace flatbed::tool {

// The device has memory(), as those of LoadDevices do. Errors: those of DeviceMemory::read_back();
// cancelled after Ctrl-C; resource_exhausted.
[[nodiscard]] Result<std::uint64_t> digest_on_device(Device& device, const std::byte* data,
                                                     std::uint64_t nbytes);

}  // namespace flatbed::tool
