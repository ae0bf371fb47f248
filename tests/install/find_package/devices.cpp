// A user of the component flatbed::cuda: lists the devices.
#include <iostream>

#include "flatbed/cuda.hpp"

int main() {
  const auto devices = flatbed::cuda_devices();
  if (!devices) {
    std::cout << devices.error().message << '\n';
    return devices.error().code == flatbed::ErrorCode::device_unavailable ? 0 : 1;
  }
  for (const auto& device : *devices) std::cout << device.ordinal << ": " << device.name << '\n';
  return 0;
}
