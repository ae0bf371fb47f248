// Elements of tensors and numpy scalars as text. Pure functions; thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "flatbed/dtype.hpp"

namespace flatbed::tool {

// A float as Python prints it: "1.0", "0.001", "inf".
[[nodiscard]] std::string real_text(double value);

// Formats one element from its little-endian bytes. Dtypes without a C++ counterpart appear in hex.
[[nodiscard]] std::string element_text(Dtype dtype, std::span<const std::byte> bytes);

// Formats a numpy scalar from its dtype.str and its bytes.
[[nodiscard]] std::string scalar_text(std::string_view typestr, std::string_view bytes);

}  // namespace flatbed::tool
