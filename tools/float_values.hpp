// The values of floats that C++ has no type for: halves, bfloat16, and those of 8 and 4 bits. Pure
// functions; thread-safe.
#pragma once

#include <bit>
#include <cstdint>

#include "flatbed/dtype.hpp"

namespace flatbed::tool {

// 1 sign bit, 5 exponent bits, 10 fraction bits: moved to their places in a float, where the
// exponent is off by 112. NaN and infinities get a float's largest exponent.
[[nodiscard]] inline float half_value(std::uint16_t half) {
  const std::uint32_t magnitude = static_cast<std::uint32_t>(half & 0x7FFF) << 13;
  const std::uint32_t special = (half & 0x7C00) == 0x7C00 ? 0x7F800000U : 0U;
  const float value = std::bit_cast<float>(magnitude) * 0x1p112F;
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000) << 16;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | special | sign);
}

// A bfloat16 is the upper half of a float.
[[nodiscard]] inline float bfloat_value(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// The value of a code of an F8 dtype or of F4, whose code is the lower 4 bits. NaN for others.
[[nodiscard]] float small_value(Dtype dtype, unsigned code);

}  // namespace flatbed::tool
