// The text of a dict's key, by which tensors are named and paths are written (spec N2). Pure
// functions, thread-safe.
#pragma once

#include <optional>
#include <string>

#include "flatbed/value.hpp"

namespace flatbed {

// Limit on the hex digits of an int key: about 4,096 decimal digits.
inline constexpr std::size_t kMaxKeyHex = 3'400;

// A str as it is (WTF-8); numbers, True, False, None and bytes by their value, also if numpy made
// them. nullopt for all other keys, and for ints beyond the limit.
[[nodiscard]] std::optional<std::string> key_text(Value key);

// A float as Python's repr() writes it: "0.5", "1e-05", "inf".
[[nodiscard]] std::string real_text(double value);

}  // namespace flatbed
