// libFuzzer's entry to the target FLATBED_FUZZ_TARGET.
#include <cstddef>
#include <cstdint>

#include "fuzz/targets.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  flatbed::fuzz::FLATBED_FUZZ_TARGET({reinterpret_cast<const char*>(data), size});
  return 0;
}
