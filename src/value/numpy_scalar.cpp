#include "value/numpy_scalar.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

namespace flatbed {

namespace {

constexpr std::size_t kMaxDigits = 9;
constexpr std::uint32_t kMaxCodePoint = 0x10FFFF;

template <typename Number>
Number load(const char* from) {
  Number value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// IEEE binary16: sign, 5 bits of exponent, 10 of fraction.
double half_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 0x1F;
  const int fraction = bits & 0x3FF;
  double value = 0;
  if (exponent == 0x1F) {
    value = fraction == 0 ? HUGE_VAL : std::nan("");
  } else if (exponent == 0) {
    value = std::ldexp(fraction, -24);
  } else {
    value = std::ldexp(fraction + 0x400, exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -value : value;
}

std::optional<ScalarValue> integer_value(std::string_view raw, bool is_signed) {
  const char* at = raw.data();
  switch (raw.size()) {
    case 1:
      return is_signed ? std::int64_t{load<std::int8_t>(at)} : load<std::uint8_t>(at);
    case 2:
      return is_signed ? std::int64_t{load<std::int16_t>(at)} : load<std::uint16_t>(at);
    case 4:
      return is_signed ? std::int64_t{load<std::int32_t>(at)} : load<std::uint32_t>(at);
    case 8:
      if (!is_signed) return load<std::uint64_t>(at);
      return load<std::int64_t>(at);
    default:
      return std::nullopt;
  }
}

std::optional<double> real_value(std::string_view raw) {
  switch (raw.size()) {
    case 2:
      return half_value(load<std::uint16_t>(raw.data()));
    case 4:
      return load<float>(raw.data());
    case 8:
      return load<double>(raw.data());
    default:
      return std::nullopt;
  }
}

void append_utf8(std::string& out, std::uint32_t code) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80U | (code >> shift & 0x3FU)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0U | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0U | code >> 12);
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0U | code >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

// Each character takes four bytes; trailing NULs are padding.
std::optional<ScalarValue> text_value(std::string_view raw) {
  std::string text;
  std::size_t used = 0;
  for (std::size_t at = 0; at + 4 <= raw.size(); at += 4) {
    const auto code = load<std::uint32_t>(raw.data() + at);
    if (code > kMaxCodePoint) return std::nullopt;
    append_utf8(text, code);
    if (code != 0) used = text.size();
  }
  text.resize(used);
  return UnicodeText{std::move(text)};
}

}  // namespace

std::optional<TypeStr> parse_typestr(std::string_view typestr) {
  if (typestr.size() < 3) return std::nullopt;
  TypeStr type{typestr[0], typestr[1], 0};
  const std::string_view rest = typestr.substr(2);
  const std::size_t digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
  if (digits == 0 || digits > kMaxDigits) return std::nullopt;
  std::from_chars(rest.data(), rest.data() + digits, type.nbytes);
  if (type.kind == 'U') type.nbytes *= 4;
  return type;
}

std::string swapped(const TypeStr& type, std::string_view raw) {
  std::string out(raw);
  const std::size_t unit = type.kind == 'U'   ? 4
                           : type.kind == 'c' ? static_cast<std::size_t>(type.nbytes) / 2
                                              : static_cast<std::size_t>(type.nbytes);
  for (std::size_t at = 0; unit > 1 && at + unit <= out.size(); at += unit)
    std::reverse(out.begin() + static_cast<std::ptrdiff_t>(at),
                 out.begin() + static_cast<std::ptrdiff_t>(at + unit));
  return out;
}

std::optional<ScalarValue> scalar_value(std::string_view typestr, std::string_view raw) {
  const std::optional<TypeStr> type = parse_typestr(typestr);
  if (!type || raw.size() != type->nbytes) return std::nullopt;
  const std::string bytes = type->order == '>' ? swapped(*type, raw) : std::string(raw);
  const std::string_view view = bytes;
  switch (type->kind) {
    case 'b':
      if (view.size() != 1) return std::nullopt;
      return view[0] != 0;
    case 'i':
    case 'u':
      return integer_value(view, type->kind == 'i');
    case 'f': {
      const std::optional<double> value = real_value(view);
      return value ? std::optional<ScalarValue>(*value) : std::nullopt;
    }
    case 'c': {
      const std::optional<double> real = real_value(view.substr(0, view.size() / 2));
      const std::optional<double> imaginary = real_value(view.substr(view.size() / 2));
      if (!real || !imaginary || view.size() < 8) return std::nullopt;
      return std::complex<double>(*real, *imaginary);
    }
    case 'U':
      return text_value(view);
    case 'S':
      return bytes.substr(0, bytes.find_last_not_of('\0') + 1);
    default:
      return std::nullopt;
  }
}

}  // namespace flatbed
