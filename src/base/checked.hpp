// Checked arithmetic for numbers that come from files. Nothing here can wrap; use it instead of +
// and *.
#pragma once

#include <cstdint>
#include <optional>

namespace flatbed {

[[nodiscard]] constexpr std::optional<std::uint64_t> checked_add(std::uint64_t a,
                                                                 std::uint64_t b) noexcept {
  std::uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

[[nodiscard]] constexpr std::optional<std::uint64_t> checked_mul(std::uint64_t a,
                                                                 std::uint64_t b) noexcept {
  std::uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

// Whether [offset, offset + nbytes) lies within [0, size). Never adds.
[[nodiscard]] constexpr bool in_bounds(std::uint64_t offset, std::uint64_t nbytes,
                                       std::uint64_t size) noexcept {
  return nbytes <= size && offset <= size - nbytes;
}

}  // namespace flatbed
