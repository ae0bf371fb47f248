// CRC-32 as used by zip files. Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace flatbed::pth {

// The CRC of `bytes`; that of no bytes is 0.
[[nodiscard]] std::uint32_t crc32_of(std::span<const std::byte> bytes) noexcept;

// The CRC of a block with CRC `first` followed by `second_nbytes` bytes with CRC `second`.
[[nodiscard]] std::uint32_t crc32_joined(std::uint32_t first, std::uint32_t second,
                                         std::uint64_t second_nbytes) noexcept;

}  // namespace flatbed::pth
