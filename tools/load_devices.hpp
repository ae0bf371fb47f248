// LoadDevices: the devices that a command line names, each made on its first use. Owns them; for
// one thread. Also what the system says about memory.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "flatbed/device.hpp"
#include "flatbed/result.hpp"
#include "load_words.hpp"

namespace flatbed::tool {

class LoadDevices {
 public:
  // Errors: device_unavailable, also where this build of the tool has no CUDA; those of
  // cuda_device().
  [[nodiscard]] Result<Device*> get(DeviceName name);

 private:
  std::map<DeviceName, std::unique_ptr<Device>> devices_;
};

// Host memory that can still be had without pushing anybody else out; nothing where the system
// does not say.
[[nodiscard]] std::optional<std::uint64_t> available_memory();

// The most memory that this process has held so far; 0 where the system does not say.
[[nodiscard]] std::uint64_t peak_memory();

}  // namespace flatbed::tool
