// number_key(): the value of a number in a form that is the same for all numbers that are equal in
// Python, and so are one key of a dict: 1, 1.0, True, complex(1, 0) and numpy.int8(1). Pure
// functions, thread-safe.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string_view>

#include "flatbed/value.hpp"

namespace flatbed {

struct NumberKey {
  enum class Form : std::uint8_t {
    signed_integer,    // of 64 bits
    unsigned_integer,  // of 64 bits, from 2^63 on
    real,              // every other value that a float can have
    big_integer,       // every other int
  };
  Form form = Form::signed_integer;
  std::uint64_t bits = 0;       // of the value in its form; big_integer: 0
  std::string_view hex;         // big_integer: as Value::text(); borrows the tree
  std::uint64_t imaginary = 0;  // bits of a complex number's imaginary part; 0 for none

  auto operator<=>(const NumberKey&) const = default;
};

// nullopt if `value` is not a number, or is one with a NaN, which equals nothing.
[[nodiscard]] std::optional<NumberKey> number_key(Value value);

}  // namespace flatbed
