// Suggestions for words that were mistyped. Pure functions, thread-safe.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "flatbed/checkpoint.hpp"

namespace flatbed::tool {

// The candidate that is most like `word`, if a typing mistake can explain the difference: one
// character in three may be missing, added, wrong or swapped with its neighbour.
[[nodiscard]] std::optional<std::string> nearest(std::string_view word,
                                                 std::span<const std::string> candidates);

// "; did you mean 'convert'?", or nothing.
[[nodiscard]] std::string suggestion(std::string_view word,
                                     std::span<const std::string> candidates);

// An error of select() with a suggestion, if `path` is not in the tree and a similar one is.
[[nodiscard]] Error with_suggestion(Error error, const Checkpoint& checkpoint,
                                    std::string_view path);

}  // namespace flatbed::tool
