#include "load_devices.hpp"

#include <fmt/format.h>

#include <fstream>
#include <optional>
#include <sstream>
#include <string>

#ifdef FLATBED_TOOL_CUDA
#include "flatbed/cuda.hpp"
#endif

namespace flatbed::tool {
namespace {

#ifdef FLATBED_TOOL_CUDA
Result<std::unique_ptr<Device>> make_cuda_device(int ordinal) { return cuda_device(ordinal); }
#else
Result<std::unique_ptr<Device>> make_cuda_device(int ordinal) {
  return Error{ErrorCode::device_unavailable,
               fmt::format("cuda:{}: this build of flatbed has no CUDA support", ordinal)};
}
#endif

// Finds a line "<key> <number> kB" in a file of /proc and returns its number.
std::optional<std::uint64_t> kilobytes_of(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    std::istringstream words(line.substr(key.size()));
    std::uint64_t kilobytes = 0;
    if (words >> kilobytes) return kilobytes * 1024;
  }
  return std::nullopt;
}

}  // namespace

Result<Device*> LoadDevices::get(DeviceName name) {
  const auto found = devices_.find(name);
  if (found != devices_.end()) return found->second.get();
  std::unique_ptr<Device> device;
  if (name.is_host()) {
    device = host_device();
  } else {
    FLATBED_ASSIGN(device, make_cuda_device(name.ordinal));
  }
  return devices_.emplace(name, std::move(device)).first->second.get();
}

std::uint64_t peak_memory() { return kilobytes_of("/proc/self/status", "VmHWM:").value_or(0); }

}  // namespace flatbed::tool
