// numpy scalars as the Python values that come nearest: what item() gives. Pure functions.
#pragma once

#include <complex>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace flatbed::pth {

// A numpy dtype.str: byte order, kind, bytes of an item. Units of dates are not looked at.
struct TypeStr {
  char order = 0;
  char kind = 0;
  std::uint64_t nbytes = 0;
};
// Nothing: it is malformed.
[[nodiscard]] std::optional<TypeStr> parse_typestr(std::string_view typestr);

struct UnicodeText {
  std::string wtf8;
};
using ScalarValue = std::variant<bool, std::int64_t, std::uint64_t, double, std::complex<double>,
                                 UnicodeText, std::string>;

// Nothing: Python has no such type (dates, records, long double), or `raw` does not fit.
[[nodiscard]] std::optional<ScalarValue> scalar_value(std::string_view typestr,
                                                      std::string_view raw);

// `raw` with the bytes of each number in the other order; complex numbers are two.
[[nodiscard]] std::string swapped(const TypeStr& type, std::string_view raw);

}  // namespace flatbed::pth
