#include "value/number_key.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <complex>
#include <limits>
#include <system_error>
#include <variant>

#include "value/numpy_scalar.hpp"

namespace flatbed {

namespace {

using Form = NumberKey::Form;

constexpr std::uint64_t kSignBit = std::uint64_t{1} << 63;
constexpr double kTwoTo63 = 9223372036854775808.0;
constexpr std::size_t kDigitsOf64Bits = 16;
constexpr std::size_t kMaxFloatDigits = 256;  // of the largest float: 1,024 bits

NumberKey key_of(std::int64_t value) {
  return {Form::signed_integer, static_cast<std::uint64_t>(value), {}};
}

NumberKey key_of(std::uint64_t value) {
  return {value < kSignBit ? Form::signed_integer : Form::unsigned_integer, value, {}};
}

std::optional<NumberKey> key_of(double value) {
  if (std::isnan(value)) return std::nullopt;
  const bool whole = value == std::trunc(value);
  if (whole && value >= -kTwoTo63 && value < kTwoTo63)
    return key_of(static_cast<std::int64_t>(value));
  if (whole && value >= kTwoTo63 && value < 2 * kTwoTo63)
    return key_of(static_cast<std::uint64_t>(value));
  return NumberKey{Form::real, std::bit_cast<std::uint64_t>(value), {}};
}

std::optional<NumberKey> key_of(std::complex<double> value) {
  std::optional<NumberKey> key = key_of(value.real());
  if (!key || std::isnan(value.imag())) return std::nullopt;
  if (value.imag() != 0) key->imaginary = std::bit_cast<std::uint64_t>(value.imag());
  return key;
}

std::optional<std::uint64_t> parse_hex(std::string_view digits) {
  std::uint64_t number = 0;
  const char* const end = digits.data() + digits.size();
  const auto [at, error] = std::from_chars(digits.data(), end, number, 16);
  return at == end && error == std::errc{} ? std::optional(number) : std::nullopt;
}

// The float with exactly this value, if there is one: 53 bits, then zeros.
std::optional<double> exact_real(std::string_view digits, bool negative) {
  const std::size_t size = digits.find_last_not_of('0') + 1;
  if (size == 0 || size > kDigitsOf64Bits || digits.size() > kMaxFloatDigits) return std::nullopt;
  const std::optional<std::uint64_t> number = parse_hex(digits.substr(0, size));
  if (!number || *number == 0) return std::nullopt;
  const std::uint64_t odd = *number >> std::countr_zero(*number);
  if (std::bit_width(odd) > std::numeric_limits<double>::digits) return std::nullopt;
  const int shift = static_cast<int>(4 * (digits.size() - size));
  const double value = std::ldexp(static_cast<double>(*number), shift);
  return negative ? -value : value;
}

// Of hex digits in "-1f" style.
std::optional<NumberKey> key_of(std::string_view hex) {
  const bool negative = hex.starts_with('-');
  std::string_view digits = hex.substr(negative ? 1 : 0);
  digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size()));
  if (digits.size() <= kDigitsOf64Bits) {
    const std::optional<std::uint64_t> number = parse_hex(digits);
    if (number && !negative) return key_of(*number);
    if (number && *number <= kSignBit) return key_of(static_cast<std::int64_t>(~*number + 1));
  }
  if (const std::optional<double> value = exact_real(digits, negative)) return key_of(*value);
  return NumberKey{Form::big_integer, 0, hex};
}

std::optional<NumberKey> key_of_scalar(Value scalar) {
  const std::optional<ScalarValue> value = scalar_value(scalar.text(), scalar.raw());
  if (!value) return std::nullopt;
  if (const auto* boolean = std::get_if<bool>(&*value)) return key_of(std::int64_t{*boolean});
  if (const auto* integer = std::get_if<std::int64_t>(&*value)) return key_of(*integer);
  if (const auto* big = std::get_if<std::uint64_t>(&*value)) return key_of(*big);
  if (const auto* real = std::get_if<double>(&*value)) return key_of(*real);
  if (const auto* complex = std::get_if<std::complex<double>>(&*value)) return key_of(*complex);
  return std::nullopt;
}

// complex(1.5, 2.0), which is how Python pickles one.
std::optional<NumberKey> key_of_call(Value object) {
  const Value callable = object.callable();
  const bool complex = object.is_bare_call() && callable.kind() == Kind::global &&
                       callable.text() == "builtins" && callable.qualname() == "complex";
  const Value arguments = object.arguments();
  if (!complex || arguments.size() != 2) return std::nullopt;
  const std::optional<double> real = arguments.item(0).as_real();
  const std::optional<double> imaginary = arguments.item(1).as_real();
  if (!real || !imaginary) return std::nullopt;
  return key_of(std::complex(*real, *imaginary));
}

}  // namespace

std::optional<NumberKey> number_key(Value value) {
  switch (value.kind()) {
    case Kind::boolean:
      return key_of(std::int64_t{*value.as_bool()});
    case Kind::integer:
      return key_of(*value.as_int());
    case Kind::big_integer:
      return key_of(value.text());
    case Kind::real:
      return key_of(*value.as_real());
    case Kind::scalar:
      return key_of_scalar(value);
    case Kind::object:
      return key_of_call(value);
    default:
      return std::nullopt;
  }
}

}  // namespace flatbed
