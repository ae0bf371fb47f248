// The literals of a pickle: integers of any size, floats and strings in the text forms of protocols
// 0 and 1, and two's complement integers. Pure functions. They are stricter than Python, which
// accepts underscores, blanks and signs: picklers write one form, and any other is pickle_literal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "flatbed/result.hpp"

namespace flatbed::pth {

// Converting a decimal integer takes quadratic time; Python has the same limit.
inline constexpr std::size_t kMaxDecimalDigits = 4300;
inline constexpr std::size_t kMaxLongBytes = 1 << 20;

// An int: 64 bits if it fits, otherwise hex digits ("-1f" style).
struct PickleInteger {
  std::int64_t value = 0;
  std::string big;  // empty if `value` holds the number
};

// -?[0-9]+
[[nodiscard]] Result<PickleInteger> parse_decimal(std::string_view text);

// Little-endian two's complement. No bytes mean 0.
[[nodiscard]] Result<PickleInteger> parse_long(std::string_view bytes);

// A float as repr() writes it, including "inf", "-inf" and "nan".
[[nodiscard]] Result<double> parse_float(std::string_view text);

// A Python 2 str literal with its quotes. Returns the bytes that it stands for.
[[nodiscard]] Result<std::string> parse_quoted(std::string_view text);

// "raw-unicode-escape": Latin-1 with \uXXXX and \UXXXXXXXX. Returns UTF-8, with lone surrogates as
// 3 bytes.
[[nodiscard]] Result<std::string> parse_raw_unicode(std::string_view text);

// Converts a text to Latin-1 bytes. Returns false if a character is U+0100 or above.
[[nodiscard]] bool to_latin1(std::string_view utf8, std::string& out);

}  // namespace flatbed::pth
