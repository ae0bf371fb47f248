// flatbed._flatbed.CudaDevice: a GPU that loads write to. Where the module was built without
// flatbed::cuda, there is none, and making one is the error device_unavailable.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "flatbed/device.hpp"
#include "flatbed/result.hpp"

namespace flatbed::python {

// Streams as Python names them: as DLPack and __cuda_array_interface__ do, 1 is the legacy default
// stream, 2 the calling thread's, anything else a handle; 0, which may be either, is refused.
struct CudaDeviceObject {
  int ordinal = 0;
  std::unique_ptr<Device> device;

  // What `stream` holds when a load begins comes before the load's copies. nullopt: nothing does.
  [[nodiscard]] static Result<CudaDeviceObject> make(int ordinal,
                                                     std::optional<std::uintptr_t> stream);
};

}  // namespace flatbed::python
