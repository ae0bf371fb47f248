// A second, slow implementation of casts, for tests: of all values of the new dtype the nearest one
// is searched for, in long doubles. It shares nothing with the library.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/cast.hpp"

namespace flatbed::test {

struct SlowFormat {
  unsigned exponent_bits, fraction_bits;
  int bias;
  enum { ieee, finite, fnuz } kind;
};

inline SlowFormat slow_format(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64:
      return {11, 52, 1023, SlowFormat::ieee};
    case Dtype::f32:
      return {8, 23, 127, SlowFormat::ieee};
    case Dtype::f16:
      return {5, 10, 15, SlowFormat::ieee};
    case Dtype::bf16:
      return {8, 7, 127, SlowFormat::ieee};
    case Dtype::f8_e5m2:
      return {5, 2, 15, SlowFormat::ieee};
    case Dtype::f8_e4m3:
      return {4, 3, 7, SlowFormat::finite};
    case Dtype::f8_e4m3fnuz:
      return {4, 3, 8, SlowFormat::fnuz};
    default:
      return {5, 2, 16, SlowFormat::fnuz};
  }
}

// The value of a code; exact, as a long double has 64 bits of fraction, or 113.
inline long double slow_value(Dtype dtype, std::uint64_t code) {
  const SlowFormat form = slow_format(dtype);
  const unsigned width = form.exponent_bits + form.fraction_bits;
  const bool negative = (code >> width & 1) != 0;
  const std::uint64_t fraction = code & ((std::uint64_t{1} << form.fraction_bits) - 1);
  const std::uint64_t exponents = (std::uint64_t{1} << form.exponent_bits) - 1;
  const std::uint64_t exponent = code >> form.fraction_bits & exponents;
  const long double nan = std::numeric_limits<long double>::quiet_NaN();
  if (form.kind == SlowFormat::fnuz && negative && exponent == 0 && fraction == 0) return nan;
  if (form.kind == SlowFormat::finite && exponent == exponents && fraction == 7) return nan;
  if (form.kind == SlowFormat::ieee && exponent == exponents) {
    if (fraction != 0) return nan;
    const long double infinity = std::numeric_limits<long double>::infinity();
    return negative ? -infinity : infinity;
  }
  const std::uint64_t implied = exponent == 0 ? 0 : std::uint64_t{1} << form.fraction_bits;
  const int scale = static_cast<int>(std::max<std::uint64_t>(exponent, 1)) - form.bias -
                    static_cast<int>(form.fraction_bits);
  const long double value = std::ldexp(static_cast<long double>(implied | fraction), scale);
  return negative ? -value : value;
}

inline std::uint64_t slow_load(Dtype dtype, std::string_view bytes, std::size_t element) {
  const std::size_t nbytes = bits(dtype) / 8;
  std::uint64_t code = 0;
  std::memcpy(&code, bytes.data() + element * nbytes, nbytes);
  return code;
}

struct SlowResult {
  std::uint64_t code = 0;
  CastCounts counts;
};

// To a dtype of at most 16 bits, or to F32. Magnitudes are ordered like their codes.
class SlowCast {
 public:
  explicit SlowCast(Dtype to) : to_(to), form_(slow_format(to)) {
    sign_ = std::uint64_t{1} << (form_.exponent_bits + form_.fraction_bits);
    const std::uint64_t infinity = sign_ - (std::uint64_t{1} << form_.fraction_bits);
    largest_ = form_.kind == SlowFormat::ieee     ? infinity - 1
               : form_.kind == SlowFormat::finite ? sign_ - 2
                                                  : sign_ - 1;
  }

  // `source` is a code of dtype `from`.
  [[nodiscard]] SlowResult operator()(Dtype from, std::uint64_t source) const {
    SlowResult result;
    const long double value = slow_value(from, source);
    const bool has_sign = !std::isnan(value) || slow_format(from).kind != SlowFormat::fnuz;
    const std::uint64_t sign = has_sign && source >> (bits(from) - 1) != 0 ? sign_ : 0;
    if (std::isnan(value)) {
      result.code = nan() | (form_.kind == SlowFormat::fnuz ? 0 : sign);
      return result;
    }
    const long double magnitude = std::fabs(value);
    const std::uint64_t code = std::isinf(value) ? largest_ + 1 : nearest(magnitude);
    const bool beyond = magnitude > slow_value(to_, largest_);
    if (code <= largest_) {
      result.code = code == 0 && form_.kind == SlowFormat::fnuz ? 0 : code | sign;
      result.counts.saturated = beyond ? 1 : 0;
    } else if (form_.kind == SlowFormat::finite) {
      result.code = largest_ | sign;
      result.counts.saturated = 1;
    } else if (form_.kind == SlowFormat::fnuz) {
      result.code = nan();
      result.counts.nan = 1;
    } else {
      result.code = (largest_ + 1) | sign;
      result.counts.infinite = std::isinf(value) ? 0 : 1;
    }
    return result;
  }

 private:
  // The quiet NaN without payload; of 8 bits, all ones.
  [[nodiscard]] std::uint64_t nan() const {
    if (form_.kind == SlowFormat::fnuz) return 0x80;
    if (sign_ == 0x80) return 0x7F;
    return largest_ + 1 + (std::uint64_t{1} << (form_.fraction_bits - 1));
  }

  // As if there were one more finite value after the largest one.
  [[nodiscard]] long double value_of(std::uint64_t code) const {
    if (code <= largest_) return slow_value(to_, code);
    const long double last = slow_value(to_, largest_);
    return last + (last - slow_value(to_, largest_ - 1));
  }

  [[nodiscard]] std::uint64_t nearest(long double magnitude) const {
    std::uint64_t low = 0;
    std::uint64_t high = largest_ + 1;
    if (magnitude >= value_of(high)) return high;
    while (high - low > 1) {
      const std::uint64_t middle = low + (high - low) / 2;
      (value_of(middle) <= magnitude ? low : high) = middle;
    }
    const long double below = magnitude - value_of(low);
    const long double above = value_of(high) - magnitude;
    if (below != above) return below < above ? low : high;
    return low % 2 == 0 ? low : high;
  }

  Dtype to_;
  SlowFormat form_;
  std::uint64_t sign_ = 0;
  std::uint64_t largest_ = 0;
};

// The bytes of elements after a cast; to F64 too.
inline std::string slow_cast(Dtype from, Dtype to, std::string_view bytes) {
  std::string out;
  const std::size_t count = bytes.size() / (bits(from) / 8);
  const SlowCast cast(to == Dtype::f64 ? Dtype::f32 : to);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t source = slow_load(from, bytes, i);
    const long double value = slow_value(from, source);
    std::uint64_t code = 0;
    if (to != Dtype::f64) {
      code = cast(from, source).code;
    } else if (std::isnan(value)) {
      const bool negative = source >> (bits(from) - 1) != 0;
      const bool one = slow_format(from).kind == SlowFormat::fnuz;
      code = negative && !one ? 0xFFF8'0000'0000'0000 : 0x7FF8'0000'0000'0000;
    } else {
      code = std::bit_cast<std::uint64_t>(static_cast<double>(value));
    }
    out.append(reinterpret_cast<const char*>(&code), bits(to) / 8);
  }
  return out;
}

}  // namespace flatbed::test
