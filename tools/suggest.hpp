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

// checkpoint.select(), whose error makes a suggestion if the path is not in the tree and a similar
// one is.
[[nodiscard]] Result<Checkpoint> select_part(const Checkpoint& checkpoint,
                                             const Selection& selection);

}  // namespace flatbed::tool
