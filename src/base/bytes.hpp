// Little-endian integers in byte buffers, and views between bytes and text. The caller has checked
// the bounds.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace flatbed {

static_assert(std::endian::native == std::endian::little,
              "flatbed supports little-endian hosts only");

template <typename Integer>
[[nodiscard]] inline Integer load_le(const std::byte* from) noexcept {
  Integer value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
[[nodiscard]] inline std::uint16_t load_le16(const std::byte* from) noexcept {
  return load_le<std::uint16_t>(from);
}
[[nodiscard]] inline std::uint32_t load_le32(const std::byte* from) noexcept {
  return load_le<std::uint32_t>(from);
}
[[nodiscard]] inline std::uint64_t load_le64(const std::byte* from) noexcept {
  return load_le<std::uint64_t>(from);
}

inline void store_le64(std::byte* to, std::uint64_t value) noexcept {
  std::memcpy(to, &value, sizeof value);
}

[[nodiscard]] inline std::string_view as_text(std::span<const std::byte> bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
[[nodiscard]] inline std::span<const std::byte> as_bytes(std::string_view text) noexcept {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

}  // namespace flatbed
