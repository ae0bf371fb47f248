#include "pickle/pickle_literal.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <vector>
#if !defined(__cpp_lib_to_chars)
#include <locale.h>
#include <stdlib.h>

#include <cerrno>
#include <cmath>
#endif

#include "base/str_cat.hpp"

namespace flatbed::pth {

namespace {

constexpr char kHexDigits[] = "0123456789abcdef";

Error malformed(std::string_view what, std::string_view text) {
  return make_error(ErrorCode::pickle_literal, quoted(text), " is not ", what);
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Builds an integer from its magnitude, least significant byte first.
PickleInteger from_magnitude(std::span<const std::uint8_t> magnitude, bool negative) {
  std::size_t size = magnitude.size();
  while (size > 0 && magnitude[size - 1] == 0) --size;
  std::uint64_t low = 0;
  for (std::size_t i = std::min<std::size_t>(size, 8); i-- > 0;) low = low << 8 | magnitude[i];
  constexpr std::uint64_t kMax = INT64_MAX;
  if (size <= 8 && low <= kMax + (negative ? 1 : 0))
    return {static_cast<std::int64_t>(negative ? 0 - low : low), {}};
  PickleInteger result;
  result.big.reserve(size * 2 + 1);
  if (negative) result.big += '-';
  if (magnitude[size - 1] >= 16) result.big += kHexDigits[magnitude[size - 1] >> 4];
  result.big += kHexDigits[magnitude[size - 1] & 15];
  for (std::size_t i = size - 1; i-- > 0;) {
    result.big += kHexDigits[magnitude[i] >> 4];
    result.big += kHexDigits[magnitude[i] & 15];
  }
  return result;
}

// The value of `count` hex digits at the start of `text`.
std::optional<std::uint32_t> hex_digits(std::string_view text, std::size_t count) {
  if (text.size() < count) return std::nullopt;
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + count, value, 16);
  if (error != std::errc{} || end != text.data() + count) return std::nullopt;
  return value;
}

void append_utf8(std::string& out, std::uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
    return;
  }
  const unsigned tails = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  constexpr std::uint32_t kLeads[] = {0, 0xC0, 0xE0, 0xF0};
  out += static_cast<char>(kLeads[tails] | c >> (6 * tails));
  for (unsigned i = tails; i-- > 0;) out += static_cast<char>(0x80 | (c >> (6 * i) & 0x3F));
}

// Decodes one escape of a Python 2 str, after its backslash. Returns how much of `text` it takes,
// or 0 if it is invalid.
std::size_t unescape(std::string_view text, std::string& out) {
  if (text.empty()) return 0;
  constexpr std::string_view kFrom = "\\'\"abfnrtv";
  constexpr std::string_view kTo = "\\'\"\a\b\f\n\r\t\v";
  if (const std::size_t at = kFrom.find(text[0]); at != std::string_view::npos) {
    out += kTo[at];
    return 1;
  }
  if (text[0] == 'x') {
    const auto value = hex_digits(text.substr(1), 2);
    if (value) out += static_cast<char>(*value);
    return value ? 3 : 0;
  }
  std::size_t size = 0;
  unsigned value = 0;
  for (; size < 3 && size < text.size() && text[size] >= '0' && text[size] <= '7'; ++size)
    value = value * 8 + static_cast<unsigned>(text[size] - '0');
  if (size != 0) out += static_cast<char>(value & 0xFF);
  return size;
}

// All of `text` as a number, of the characters that parse_float() admits.
std::optional<double> read_double(std::string_view text) {
  double value = 0;
#if defined(__cpp_lib_to_chars)
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
#else
  // libc++ before 20 has no from_chars() for floats. strtod() goes by the process's locale, hence
  // strtod_l(); it also takes a plus sign, and of what does not fit it gives the nearest number.
  const std::string terminated(text);
  locale_t const plain = newlocale(LC_ALL_MASK, "C", nullptr);  // of glibc static, cannot fail
  char* end = nullptr;
  errno = 0;
  value = strtod_l(terminated.c_str(), &end, plain);
  const bool fits = errno != ERANGE || (value != 0 && !std::isinf(value));
  freelocale(plain);
  const bool whole = end == terminated.c_str() + terminated.size();
  if (text.empty() || text.front() == '+' || !whole || !fits) return std::nullopt;
#endif
  return value;
}

}  // namespace

Result<PickleInteger> parse_decimal(std::string_view text) {
  const bool negative = text.starts_with('-');
  const std::string_view digits = text.substr(negative ? 1 : 0);
  if (digits.empty() || !std::all_of(digits.begin(), digits.end(), is_digit))
    return malformed("an integer", text);
  if (digits.size() > kMaxDecimalDigits)
    return make_error(ErrorCode::pickle_limit, "the integer is too long: found ", digits.size(),
                      " decimal digits, the limit is ", kMaxDecimalDigits);
  std::int64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc{})
    return PickleInteger{value, {}};
  std::vector<std::uint8_t> magnitude;
  for (const char digit : digits) {
    unsigned carry = static_cast<unsigned>(digit - '0');
    for (std::uint8_t& byte : magnitude) {
      carry += byte * 10U;
      byte = static_cast<std::uint8_t>(carry & 0xFF);
      carry >>= 8;
    }
    if (carry != 0) magnitude.push_back(static_cast<std::uint8_t>(carry));
  }
  return from_magnitude(magnitude, negative);
}

Result<PickleInteger> parse_long(std::string_view bytes) {
  if (bytes.empty()) return PickleInteger{};
  if (bytes.size() > kMaxLongBytes)
    return make_error(ErrorCode::pickle_limit, "the integer is too long: found ", bytes.size(),
                      " bytes, the limit is ", kMaxLongBytes);
  const bool negative = (static_cast<std::uint8_t>(bytes.back()) & 0x80) != 0;
  std::vector<std::uint8_t> magnitude(bytes.begin(), bytes.end());
  if (negative) {
    unsigned carry = 1;
    for (std::uint8_t& byte : magnitude) {
      carry += static_cast<std::uint8_t>(~byte);
      byte = static_cast<std::uint8_t>(carry & 0xFF);
      carry >>= 8;
    }
  }
  return from_magnitude(magnitude, negative);
}

Result<double> parse_float(std::string_view text) {
  constexpr std::string_view kFiniteDigits = "0123456789+-.e";
  const bool finite = text.find_first_not_of(kFiniteDigits) == std::string_view::npos;
  if (!finite && text != "inf" && text != "-inf" && text != "nan" && text != "-nan")
    return malformed("a float", text);
  if (const std::optional<double> value = read_double(text)) return *value;
  return malformed("a float", text);
}

Result<std::string> parse_quoted(std::string_view text) {
  if (text.size() < 2 || text.front() != text.back() ||
      (text.front() != '\'' && text.front() != '"'))
    return malformed("a quoted string", text);
  const char quote = text.front();
  std::string out;
  for (std::string_view rest = text.substr(1, text.size() - 2); !rest.empty();) {
    if (rest[0] == quote) return malformed("a quoted string", text);
    const std::size_t size = rest[0] == '\\' ? unescape(rest.substr(1), out) : 0;
    if (rest[0] == '\\' && size == 0) return malformed("a quoted string", text);
    if (size == 0) out += rest[0];
    rest.remove_prefix(size + 1);
  }
  return out;
}

Result<std::string> parse_raw_unicode(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at++];
    const char next = at < text.size() ? text[at] : '\0';
    if (c != '\\' || (next != 'u' && next != 'U')) {
      append_utf8(out, static_cast<unsigned char>(c));
      // A backslash also takes the next character: in \\u0041 the second one does not start an
      // escape.
      if (c == '\\' && at < text.size()) append_utf8(out, static_cast<unsigned char>(text[at++]));
      continue;
    }
    const std::size_t count = next == 'u' ? 4 : 8;
    const auto value = hex_digits(text.substr(at + 1), count);
    if (!value || *value > 0x10FFFF) return malformed("a unicode string", text);
    append_utf8(out, *value);
    at += 1 + count;
  }
  return out;
}

bool to_latin1(std::string_view utf8, std::string& out) {
  out.clear();
  for (std::size_t at = 0; at < utf8.size(); ++at) {
    const auto lead = static_cast<unsigned char>(utf8[at]);
    if (lead >= 0x80 && lead != 0xC2 && lead != 0xC3) return false;
    const bool two = lead >= 0x80;
    // In a scan, texts arrive unchecked.
    if (two && (++at == utf8.size() || (utf8[at] & 0xC0) != 0x80)) return false;
    out += two ? static_cast<char>((lead & 0x03) << 6 | (utf8[at] & 0x3F)) : utf8[at];
  }
  return true;
}

}  // namespace flatbed::pth
