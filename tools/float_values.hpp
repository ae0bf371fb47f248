// The values of floats that C++ has no type for: halves, bfloat16, and those of 8 and 4 bits. Pure
// functions; thread-safe.
#pragma once

#include <bit>
#include <cstdint>

#include "flatbed/dtype.hpp"

namespace flatbed::tool {

// 1 sign bit, 5 exponent bits, 10 fraction bits, in the lower half. Exponent and fraction move to
// their places in a float, whose exponent is larger by 112, and by 112 again for NaN and infinity.
// Without branches, and without subnormal floats, which are slow, so that vector units can do it.
[[nodiscard]] inline float half_value(std::uint32_t half) {
  const auto magnitude = static_cast<std::int32_t>(half & 0x7FFF);
  const auto special = static_cast<std::uint32_t>((0x7BFF - magnitude) >> 31);  // a mask
  const auto subnormal = static_cast<std::uint32_t>((magnitude - 0x0400) >> 31);
  const float tiny = static_cast<float>(magnitude) * 0x1p-24F;
  const std::uint32_t normal = ((half & 0x7FFF) << 13) + (112U << 23) + (special & (112U << 23));
  const std::uint32_t bits =
      (std::bit_cast<std::uint32_t>(tiny) & subnormal) | (normal & ~subnormal);
  return std::bit_cast<float>(bits | (half & 0x8000) << 16);
}

// A bfloat16 is the upper half of a float.
[[nodiscard]] inline float bfloat_value(std::uint32_t bits) {
  return std::bit_cast<float>(bits << 16);
}

// The value of a code of an F8 dtype or of F4, whose code is the lower 4 bits. NaN for others.
[[nodiscard]] float small_value(Dtype dtype, unsigned code);

}  // namespace flatbed::tool
