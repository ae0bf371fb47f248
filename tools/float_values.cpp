#include "float_values.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace flatbed::tool {
namespace {

// Which codes are NaN, and whether the largest exponent means infinity.
enum class Specials : std::uint8_t { none, ieee, all_ones, minus_zero };

struct SmallFloat {
  Dtype dtype;
  unsigned exponent_bits, fraction_bits;
  int bias;
  Specials specials;
};
constexpr std::array kSmallFloats{
    SmallFloat{Dtype::f8_e5m2, 5, 2, 15, Specials::ieee},
    SmallFloat{Dtype::f8_e4m3, 4, 3, 7, Specials::all_ones},
    SmallFloat{Dtype::f8_e5m2fnuz, 5, 2, 16, Specials::minus_zero},
    SmallFloat{Dtype::f8_e4m3fnuz, 4, 3, 8, Specials::minus_zero},
    SmallFloat{Dtype::f4, 2, 1, 1, Specials::none},
};

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// 8 exponent bits and nothing else.
float scale_value(unsigned code) {
  return code == 255 ? kNan : std::ldexp(1.0F, static_cast<int>(code) - 127);
}

}  // namespace

float small_value(Dtype dtype, unsigned code) {
  if (dtype == Dtype::f8_e8m0) return scale_value(code);
  const auto* const form = std::ranges::find(kSmallFloats, dtype, &SmallFloat::dtype);
  if (form == kSmallFloats.end()) return kNan;
  const unsigned exponents = (1U << form->exponent_bits) - 1, fractions = 1U << form->fraction_bits;
  const unsigned exponent = code >> form->fraction_bits & exponents;
  const unsigned fraction = code & (fractions - 1);
  const bool negative = (code >> (form->exponent_bits + form->fraction_bits) & 1) != 0;
  if (form->specials == Specials::minus_zero && negative && exponent == 0 && fraction == 0)
    return kNan;
  if (form->specials == Specials::all_ones && exponent == exponents && fraction == fractions - 1)
    return kNan;
  float value = std::numeric_limits<float>::infinity();
  if (form->specials == Specials::ieee && exponent == exponents) {
    if (fraction != 0) return kNan;
  } else {
    const int scale = static_cast<int>(std::max(exponent, 1U)) - form->bias -
                      static_cast<int>(form->fraction_bits);
    value = std::ldexp(static_cast<float>(fraction + (exponent != 0 ? fractions : 0)), scale);
  }
  return negative ? -value : value;
}

}  // namespace flatbed::tool
