// similar_word(): the command or option that a mistyped word was probably meant
// to be. Pure function.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace flatbed::tool {

// The word that becomes `typed` by the fewest inserted, removed, replaced or swapped letters. Empty
// if that takes more than one for each three letters of `typed`.
[[nodiscard]] std::string similar_word(std::string_view typed, std::span<const std::string> words);

}  // namespace flatbed::tool
