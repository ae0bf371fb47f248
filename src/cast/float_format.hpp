// The floats that can be cast, as bits: how each dtype lays them out, and the exact conversion of
// one value. Integer arithmetic only, so that no rounding mode and no processor changes a result;
// the vectorized kernels are compared with it. Pure functions, constexpr, thread-safe.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "flatbed/cast.hpp"
#include "flatbed/dtype.hpp"

namespace flatbed {

// The sign is the highest bit, then come exponent and fraction. Codes are without the sign.
struct FloatFormat {
  Dtype dtype;
  unsigned fraction_bits;
  int bias;
  std::uint64_t largest;    // the largest finite value
  std::uint64_t too_large;  // what larger magnitudes become: infinity, the largest value, or NaN
  std::uint64_t nan;
  bool has_infinity;
  bool one_nan;  // fnuz: the code of minus zero is the only NaN
};

inline constexpr std::array kFloatFormats{
    FloatFormat{Dtype::f64, 52, 1023, 0x7FEF'FFFF'FFFF'FFFF, 0x7FF0'0000'0000'0000,
                0x7FF8'0000'0000'0000, true, false},
    FloatFormat{Dtype::f32, 23, 127, 0x7F7F'FFFF, 0x7F80'0000, 0x7FC0'0000, true, false},
    FloatFormat{Dtype::f16, 10, 15, 0x7BFF, 0x7C00, 0x7E00, true, false},
    FloatFormat{Dtype::bf16, 7, 127, 0x7F7F, 0x7F80, 0x7FC0, true, false},
    FloatFormat{Dtype::f8_e4m3, 3, 7, 0x7E, 0x7E, 0x7F, false, false},
    FloatFormat{Dtype::f8_e5m2, 2, 15, 0x7B, 0x7C, 0x7F, true, false},
    FloatFormat{Dtype::f8_e4m3fnuz, 3, 8, 0x7F, 0x80, 0x80, false, true},
    FloatFormat{Dtype::f8_e5m2fnuz, 2, 16, 0x7F, 0x80, 0x80, false, true},
};
static_assert(kFloatFormats.size() == kCastableDtypes.size());

// The index of the dtype in kFloatFormats; their number if it cannot be cast.
[[nodiscard]] constexpr std::size_t format_index(Dtype dtype) noexcept {
  std::size_t i = 0;
  while (i < kFloatFormats.size() && kFloatFormats[i].dtype != dtype) ++i;
  return i;
}
template <Dtype kDtype>
inline constexpr FloatFormat kFormatOf = kFloatFormats[format_index(kDtype)];

// The bits of one element.
template <Dtype kDtype>
using FloatBits = std::conditional_t<
    bits(kDtype) == 64, std::uint64_t,
    std::conditional_t<bits(kDtype) == 32, std::uint32_t,
                       std::conditional_t<bits(kDtype) == 16, std::uint16_t, std::uint8_t>>>;

template <Dtype kDtype>
inline constexpr FloatBits<kDtype> kSignBit = static_cast<FloatBits<kDtype>>(FloatBits<kDtype>{1}
                                                                             << (bits(kDtype) - 1));

// What became of one value.
enum class CastOutcome : std::uint8_t { fits, saturated, infinite, nan };

template <Dtype kDtype>
struct CastValue {
  FloatBits<kDtype> code = 0;
  CastOutcome outcome = CastOutcome::fits;
};

template <Dtype kDtype>
[[nodiscard]] constexpr bool is_nan_code(FloatBits<kDtype> code) noexcept {
  constexpr FloatFormat kFormat = kFormatOf<kDtype>;
  if constexpr (kFormat.one_nan) return code == kFormat.nan;
  const auto magnitude = static_cast<FloatBits<kDtype>>(code & ~kSignBit<kDtype>);
  return kFormat.has_infinity ? magnitude > kFormat.too_large : magnitude == kFormat.nan;
}

template <Dtype kDtype>
[[nodiscard]] constexpr FloatBits<kDtype> nan_code(bool negative) noexcept {
  constexpr auto kNan = static_cast<FloatBits<kDtype>>(kFormatOf<kDtype>.nan);
  return negative ? static_cast<FloatBits<kDtype>>(kNan | kSignBit<kDtype>) : kNan;
}

// F32 for a dtype of at most 16 bits, F64 for F32: every value of the first is a normal one of the
// second, or zero, or has the same exponent there (BF16).
template <Dtype kFrom, Dtype kTo>
[[nodiscard]] constexpr FloatBits<kTo> widen(FloatBits<kFrom> code) noexcept {
  using To = FloatBits<kTo>;
  constexpr FloatFormat kSource = kFormatOf<kFrom>;
  constexpr FloatFormat kTarget = kFormatOf<kTo>;
  constexpr unsigned kMore = kTarget.fraction_bits - kSource.fraction_bits;
  const bool negative = (code & kSignBit<kFrom>) != 0;
  const To sign = negative ? kSignBit<kTo> : To{0};
  if (is_nan_code<kFrom>(code)) return nan_code<kTo>(negative && !kSource.one_nan);
  const To magnitude = static_cast<FloatBits<kFrom>>(code & ~kSignBit<kFrom>);
  if (kSource.has_infinity && magnitude == kSource.too_large)
    return static_cast<To>(sign | kTarget.too_large);
  if (kSource.bias == kTarget.bias) return sign | (magnitude << kMore);
  if (magnitude == 0) return sign;
  constexpr To kRebias = static_cast<To>(kTarget.bias - kSource.bias) << kTarget.fraction_bits;
  if (magnitude >> kSource.fraction_bits != 0) return sign | ((magnitude << kMore) + kRebias);
  // A subnormal one: its highest bit becomes the implied one.
  const auto top = static_cast<unsigned>(std::bit_width(magnitude)) - 1;
  const unsigned lower = kSource.fraction_bits - top;
  const To normal = (magnitude << (kMore + lower)) - (To{lower} << kTarget.fraction_bits);
  return sign | (normal + kRebias);
}

// The magnitude of the largest finite value of kTo, as an F32 or F64.
template <Dtype kFrom, Dtype kTo>
[[nodiscard]] constexpr FloatBits<kFrom> largest_as() noexcept {
  constexpr auto kLargest = static_cast<FloatBits<kTo>>(kFormatOf<kTo>.largest);
  if constexpr (kFrom == Dtype::f64 && kTo != Dtype::f32) {
    return widen<Dtype::f32, kFrom>(widen<kTo, Dtype::f32>(kLargest));
  } else {
    return widen<kTo, kFrom>(kLargest);
  }
}

// `value` without its lowest `shift` bits, of which there is one or more, rounded to nearest even.
template <typename Bits>
[[nodiscard]] constexpr Bits round_shift(Bits value, unsigned shift) noexcept {
  const Bits odd = (value >> shift) & 1;
  return (value + (Bits{1} << (shift - 1)) - 1 + odd) >> shift;
}

// The magnitude of a finite F32 or F64 in a dtype of fewer bits, as if its exponents had no end.
template <Dtype kFrom, Dtype kTo>
[[nodiscard]] constexpr FloatBits<kFrom> round_magnitude(FloatBits<kFrom> magnitude) noexcept {
  using From = FloatBits<kFrom>;
  constexpr FloatFormat kSource = kFormatOf<kFrom>;
  constexpr FloatFormat kTarget = kFormatOf<kTo>;
  constexpr unsigned kLess = kSource.fraction_bits - kTarget.fraction_bits;
  constexpr int kBias = kSource.bias - kTarget.bias;
  if constexpr (kBias == 0) {
    return round_shift(magnitude, kLess);
  } else {
    const auto exponent = static_cast<int>(magnitude >> kSource.fraction_bits);
    if (exponent > kBias)  // a normal value of the target, too
      return round_shift<From>(magnitude - (From{kBias} << kSource.fraction_bits), kLess);
    const auto lower = static_cast<unsigned>(kBias + 1 - exponent);
    if (lower > kTarget.fraction_bits + 1) return 0;  // less than half the smallest value
    const From implied = From{1} << kSource.fraction_bits;
    return round_shift<From>((magnitude & (implied - 1)) | implied, kLess + lower);
  }
}

// F32 or F64 in a dtype of fewer bits.
template <Dtype kFrom, Dtype kTo>
[[nodiscard]] constexpr CastValue<kTo> narrow(FloatBits<kFrom> code) noexcept {
  using To = FloatBits<kTo>;
  constexpr FloatFormat kSource = kFormatOf<kFrom>;
  constexpr FloatFormat kTarget = kFormatOf<kTo>;
  const bool negative = (code & kSignBit<kFrom>) != 0;
  const To sign = negative ? kSignBit<kTo> : To{0};
  const FloatBits<kFrom> magnitude = code & ~kSignBit<kFrom>;
  if (magnitude > kSource.too_large) return {nan_code<kTo>(negative), CastOutcome::fits};
  const bool infinite = magnitude == kSource.too_large;
  const FloatBits<kFrom> rounded = infinite ? 0 : round_magnitude<kFrom, kTo>(magnitude);
  if (!infinite && rounded <= kTarget.largest) {
    if (kTarget.one_nan && rounded == 0) return {};
    const auto code_of = static_cast<To>(rounded);
    // More than the largest value may round to it.
    const bool beyond = rounded == kTarget.largest && magnitude > largest_as<kFrom, kTo>();
    return {static_cast<To>(sign | code_of), beyond ? CastOutcome::saturated : CastOutcome::fits};
  }
  if (kTarget.one_nan) return {static_cast<To>(kTarget.nan), CastOutcome::nan};
  const auto too_large = static_cast<To>(sign | kTarget.too_large);
  if (!kTarget.has_infinity) return {too_large, CastOutcome::saturated};
  return {too_large, infinite ? CastOutcome::fits : CastOutcome::infinite};
}

// One value. Both dtypes can be cast and differ.
template <Dtype kFrom, Dtype kTo>
[[nodiscard]] constexpr CastValue<kTo> cast_value(FloatBits<kFrom> code) noexcept {
  if constexpr (kFrom == Dtype::f64 || (kFrom == Dtype::f32 && kTo != Dtype::f64)) {
    return narrow<kFrom, kTo>(code);
  } else if constexpr (kFrom == Dtype::f32) {
    return {widen<kFrom, kTo>(code)};
  } else if constexpr (kTo == Dtype::f32) {
    return {widen<kFrom, kTo>(code)};
  } else {
    return cast_value<Dtype::f32, kTo>(widen<kFrom, Dtype::f32>(code));
  }
}

}  // namespace flatbed
