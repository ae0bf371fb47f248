// The literals of a pickle: integers of any size, floats and strings in the text forms of protocols
// 0 and 1, and two's complement integers. Pure functions, stricter than Python's where Python is
// lax (underscores, blanks, signs): picklers write one form, and anything else is pickle_literal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "flatbed/result.hpp"

namespace flatbed::pth {

// Decimal integers are converted in quadratic time; Python has the same limit.
inline constexpr std::size_t kMaxDecimalDigits = 4300;
inline constexpr std::size_t kMaxLongBytes = 1 << 20;

// An int: in 64 bits where it fits, else as hex digits ("-1f" style).
struct PickleInteger {
  std::int64_t value = 0;
  std::string big;  // empty: value holds
};

// -?[0-9]+
[[nodiscard]] Result<PickleInteger> parse_decimal(std::string_view text);

// Little-endian two's complement; no bytes are 0.
[[nodiscard]] Result<PickleInteger> parse_long(std::string_view bytes);

// What repr() gives for a float, also "inf", "-inf" and "nan".
[[nodiscard]] Result<double> parse_float(std::string_view text);

// A Python 2 str literal with its quotes: the bytes that it stands for.
[[nodiscard]] Result<std::string> parse_quoted(std::string_view text);

// "raw-unicode-escape": Latin-1 with \uXXXX and \UXXXXXXXX. The result is UTF-8, lone surrogates as
// 3 bytes.
[[nodiscard]] Result<std::string> parse_raw_unicode(std::string_view text);

// The Latin-1 bytes of a text whose characters are all below U+0100; false: they are not.
[[nodiscard]] bool to_latin1(std::string_view utf8, std::string& out);

}  // namespace flatbed::pth
