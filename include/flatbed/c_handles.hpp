// to_c(): objects of C++ as handles of the C interface (flatbed.h), for engines that are written in
// both, and for components of flatbed. The handle owns the object; free it as flatbed.h says.
// Thread-safe.
#pragma once

#include <memory>

#include "flatbed/checkpoint.hpp"
#include "flatbed/device.hpp"
#include "flatbed/export.hpp"
#include "flatbed/flatbed.h"

namespace flatbed {

// A null gives a null.
[[nodiscard]] FLATBED_EXPORT flatbed_device* to_c(std::unique_ptr<Device> device);

[[nodiscard]] FLATBED_EXPORT flatbed_checkpoint* to_c(Checkpoint checkpoint);

}  // namespace flatbed
