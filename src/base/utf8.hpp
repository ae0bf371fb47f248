// Strict UTF-8, and WTF-8, which also allows lone surrogates as three bytes. Python strings that
// are not valid Unicode are kept as WTF-8. Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace flatbed {

// The length of the well-formed UTF-8 sequence that begins at `at`, 1 to 4; 0 if there is none.
[[nodiscard]] std::size_t utf8_sequence(std::string_view text, std::size_t at) noexcept;

// Whether three bytes at `at` encode a surrogate (U+D800 .. U+DFFF).
[[nodiscard]] bool is_surrogate(std::string_view text, std::size_t at) noexcept;

[[nodiscard]] bool is_utf8(std::string_view text) noexcept;
[[nodiscard]] bool is_wtf8(std::string_view text) noexcept;

// Replaces each surrogate in `wtf8` by U+FFFD.
[[nodiscard]] std::string replace_surrogates(std::string_view wtf8);

}  // namespace flatbed
