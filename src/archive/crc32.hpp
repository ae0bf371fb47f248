// CRC-32 as zip files have it. Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace flatbed::pth {

// Of `bytes` alone; that of no bytes is 0.
[[nodiscard]] std::uint32_t crc32_of(std::span<const std::byte> bytes) noexcept;

// Of bytes whose CRC is `first`, followed by `second_nbytes` whose CRC is `second`.
[[nodiscard]] std::uint32_t crc32_joined(std::uint32_t first, std::uint32_t second,
                                         std::uint64_t second_nbytes) noexcept;

}  // namespace flatbed::pth
