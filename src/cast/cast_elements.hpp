// The portable kernels, which the vectorized ones call for values that are out of range or NaN.
// Thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstring>

#include "cast/float_format.hpp"
#include "flatbed/cast.hpp"

namespace flatbed {

inline void count_outcome(CastOutcome outcome, CastCounts& counts) noexcept {
  counts.saturated += outcome == CastOutcome::saturated ? 1 : 0;
  counts.infinite += outcome == CastOutcome::infinite ? 1 : 0;
  counts.nan += outcome == CastOutcome::nan ? 1 : 0;
}

template <Dtype kDtype>
[[nodiscard]] inline FloatBits<kDtype> load_element(const std::byte* at) noexcept {
  FloatBits<kDtype> code;
  std::memcpy(&code, at, sizeof code);
  return code;
}

// What all 256 codes of an F8 dtype become.
template <Dtype kFrom, Dtype kTo>
inline constexpr auto kCastTable = [] {
  std::array<CastValue<kTo>, 256> table = {};
  for (unsigned code = 0; code < table.size(); ++code)
    table[code] = cast_value<kFrom, kTo>(static_cast<std::uint8_t>(code));
  return table;
}();

template <Dtype kFrom, Dtype kTo>
void cast_elements(const std::byte* from, std::byte* to, std::size_t count,
                   CastCounts& counts) noexcept {
  using From = FloatBits<kFrom>;
  using To = FloatBits<kTo>;
  for (std::size_t i = 0; i < count; ++i) {
    const From code = load_element<kFrom>(from + i * sizeof(From));
    CastValue<kTo> value;
    if constexpr (sizeof(From) == 1) {
      value = kCastTable<kFrom, kTo>[code];
    } else {
      value = cast_value<kFrom, kTo>(code);
    }
    std::memcpy(to + i * sizeof(To), &value.code, sizeof(To));
    if (value.outcome != CastOutcome::fits) count_outcome(value.outcome, counts);
  }
}

}  // namespace flatbed
