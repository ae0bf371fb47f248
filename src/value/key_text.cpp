#include "value/key_text.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>

#include "base/json_write.hpp"
#include "base/str_cat.hpp"
#include "base/utf8.hpp"
#include "value/numpy_scalar.hpp"

namespace flatbed {

namespace {

// The decimal digits of hex digits in "-1f" style.
std::string decimal(std::string_view hex) {
  const bool negative = hex.starts_with('-');
  std::string digits = "0";  // least significant digit first
  for (const char c : hex.substr(negative ? 1 : 0)) {
    int carry = c <= '9' ? c - '0' : c - 'a' + 10;
    for (char& digit : digits) {
      const int value = (digit - '0') * 16 + carry;
      digit = static_cast<char>('0' + value % 10);
      carry = value / 10;
    }
    for (; carry > 0; carry /= 10) digits += static_cast<char>('0' + carry % 10);
  }
  if (negative) digits += '-';
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::optional<std::string> bytes_text(std::string_view bytes) {
  return is_utf8(bytes) ? std::optional(std::string(bytes)) : std::nullopt;
}

// A numpy scalar equals the Python value, and so is the same key.
std::optional<std::string> scalar_text(Value key) {
  const std::optional<ScalarValue> value = scalar_value(key.text(), key.raw());
  if (!value) return std::nullopt;
  if (const auto* boolean = std::get_if<bool>(&*value)) return *boolean ? "True" : "False";
  if (const auto* integer = std::get_if<std::int64_t>(&*value)) return str_cat(*integer);
  if (const auto* big = std::get_if<std::uint64_t>(&*value)) return str_cat(*big);
  if (const auto* real = std::get_if<double>(&*value)) return real_text(*real);
  if (const auto* text = std::get_if<UnicodeText>(&*value)) return text->wtf8;
  if (const auto* bytes = std::get_if<std::string>(&*value)) return bytes_text(*bytes);
  return std::nullopt;
}

}  // namespace

std::string real_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::string text;
  append_json_real(text, value);
  return text;
}

std::optional<std::string> key_text(Value key) {
  switch (key.kind()) {
    case Kind::string:
      return std::string(key.text());
    case Kind::integer:
      return str_cat(*key.as_int());
    case Kind::big_integer:
      if (key.text().size() > kMaxKeyHex) return std::nullopt;
      return decimal(key.text());
    case Kind::boolean:
      return *key.as_bool() ? "True" : "False";
    case Kind::none:
      return "None";
    case Kind::real:
      return real_text(*key.as_real());
    case Kind::bytes:
      return key.tensor() ? std::nullopt : bytes_text(key.text());
    case Kind::scalar:
      return scalar_text(key);
    default:
      return std::nullopt;
  }
}

}  // namespace flatbed
