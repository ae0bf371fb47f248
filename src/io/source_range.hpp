// Checked ranges of a ByteSource. Pure functions.
#pragma once

#include <cstdint>
#include <span>

#include "flatbed/byte_source.hpp"

namespace flatbed {

// Errors: invalid_argument where the source does not have these bytes.
[[nodiscard]] Result<void> check_range(const ByteSource& source, std::uint64_t offset,
                                       std::uint64_t nbytes);

// Bytes of all parts. Saturates: parts may name the same memory again and again.
[[nodiscard]] std::uint64_t nbytes_of(std::span<const std::span<std::byte>> parts) noexcept;

}  // namespace flatbed
