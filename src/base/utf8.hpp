// UTF-8 as files must have it, and WTF-8: the same with lone surrogates as three bytes, which is
// how Python strings that are no Unicode text are kept. Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace flatbed {

// The length of the well-formed UTF-8 sequence that begins at `at`, 1 to 4; 0 when there is none.
[[nodiscard]] std::size_t utf8_sequence(std::string_view text, std::size_t at) noexcept;

// Whether three bytes at `at` encode a surrogate (U+D800 .. U+DFFF).
[[nodiscard]] bool is_surrogate(std::string_view text, std::size_t at) noexcept;

[[nodiscard]] bool is_utf8(std::string_view text) noexcept;
[[nodiscard]] bool is_wtf8(std::string_view text) noexcept;

// The text with U+FFFD for each surrogate. `wtf8` is WTF-8.
[[nodiscard]] std::string replace_surrogates(std::string_view wtf8);

}  // namespace flatbed
