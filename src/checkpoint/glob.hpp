// Globs over tensor names: * any run of characters (dots included), ? one byte, [a-z] and [!a-z]
// sets of bytes, \ takes the next character literally. Pure functions, thread-safe.
#pragma once

#include <string_view>

namespace flatbed {

// Time is at most proportional to pattern times text: a star never backtracks past a later one.
[[nodiscard]] bool glob_matches(std::string_view pattern, std::string_view text) noexcept;

}  // namespace flatbed
