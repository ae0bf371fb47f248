// Parses the arguments of `flatbed load` and `flatbed bench` that are more than a number: a size, a
// device, a slice, a device mapping, a list of thread counts. Pure functions over the text of the
// command line. Every error is invalid_argument and says what was expected.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/load.hpp"
#include "flatbed/result.hpp"

namespace flatbed::tool {

// "host" or "cuda:N".
struct DeviceName {
  static constexpr int kHost = -1;
  int ordinal = kHost;
  [[nodiscard]] bool is_host() const noexcept { return ordinal == kHost; }
  auto operator<=>(const DeviceName&) const = default;
};
[[nodiscard]] std::string device_text(DeviceName device);
[[nodiscard]] Result<DeviceName> parse_device(std::string_view word);

// "cuda:1=cuda:0": tensors that a checkpoint's tree places on device `from` go to `to`. `from` is
// any device name that torch could have written there.
struct DeviceMapping {
  std::string from;
  DeviceName to;
};
[[nodiscard]] Result<DeviceMapping> parse_mapping(std::string_view word);

// "0:3/8": part 3 of 8 of dimension 0.
struct SliceChoice {
  std::size_t dim = 0;
  std::uint64_t rank = 0;
  std::uint64_t count = 1;
};
[[nodiscard]] Result<SliceChoice> parse_slice(std::string_view word);

// "auto", "pread" (through the page cache) or "direct" (with O_DIRECT).
[[nodiscard]] Result<IoMode> parse_io(std::string_view word);

// "64M", "512KiB", "4096"; units are powers of 1024.
[[nodiscard]] Result<std::uint64_t> parse_nbytes(std::string_view word);

// "1,2,4", each in [1, kMaxThreads].
inline constexpr unsigned kMaxThreads = 64;
[[nodiscard]] Result<std::vector<unsigned>> parse_threads(std::string_view word);

}  // namespace flatbed::tool
