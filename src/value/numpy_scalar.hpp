// Converts numpy scalars to the nearest Python values, as item() does. Pure functions.
#pragma once

#include <complex>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace flatbed {

// A numpy dtype.str: byte order, kind, item size in bytes. Units of dates are ignored.
struct TypeStr {
  char order = 0;
  char kind = 0;
  std::uint64_t nbytes = 0;
};
// nullopt if it is malformed.
[[nodiscard]] std::optional<TypeStr> parse_typestr(std::string_view typestr);

struct UnicodeText {
  std::string wtf8;
};
using ScalarValue = std::variant<bool, std::int64_t, std::uint64_t, double, std::complex<double>,
                                 UnicodeText, std::string>;

// nullopt if Python has no such type (dates, records, long double), or if `raw` has the wrong size.
[[nodiscard]] std::optional<ScalarValue> scalar_value(std::string_view typestr,
                                                      std::string_view raw);

// `raw` with the bytes of each number reversed. A complex number counts as two.
[[nodiscard]] std::string swapped(const TypeStr& type, std::string_view raw);

}  // namespace flatbed
