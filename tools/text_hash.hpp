// A text as 128 bits, by XXH3: for sets of many texts, and for names that follow from one. Pure
// function.
#pragma once

#include <compare>
#include <cstdint>
#include <string_view>

namespace flatbed::tool {

struct TextHash {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  [[nodiscard]] friend auto operator<=>(const TextHash&, const TextHash&) = default;
};

[[nodiscard]] TextHash hash_of(std::string_view text) noexcept;

}  // namespace flatbed::tool
