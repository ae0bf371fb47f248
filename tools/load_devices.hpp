// LoadDevices: the devices that a command line names, each created on first use. Owns them. Not
// thread-safe. Also reports the system's memory figures.
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "flatbed/device.hpp"
#include "flatbed/result.hpp"
#include "load_words.hpp"

namespace flatbed::tool {

class LoadDevices {
 public:
  // Errors: device_unavailable (also if this build of the tool has no CUDA) and those of
  // cuda_device().
  [[nodiscard]] Result<Device*> get(DeviceName name);

 private:
  std::map<DeviceName, std::unique_ptr<Device>> devices_;
};

// The peak memory of this process so far, in bytes; 0 if the system does not say.
[[nodiscard]] std::uint64_t peak_memory();

}  // namespace flatbed::tool
