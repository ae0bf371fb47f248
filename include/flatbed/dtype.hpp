// Dtype: the element types that a safetensors file can store, with their names and sizes.
// Plain values; every function here is constexpr and thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "flatbed/export.hpp"

namespace flatbed {

enum class Dtype : std::uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64,
};

struct DtypeRow {
  Dtype dtype;
  std::string_view name;  // as in the header's "dtype"
  std::uint32_t bits;     // per element; f4 and f6 pack several elements into whole bytes
};

inline constexpr std::array kDtypes{
    DtypeRow{Dtype::boolean, "BOOL", 8},
    DtypeRow{Dtype::f4, "F4", 4},
    DtypeRow{Dtype::f6_e2m3, "F6_E2M3", 6},
    DtypeRow{Dtype::f6_e3m2, "F6_E3M2", 6},
    DtypeRow{Dtype::u8, "U8", 8},
    DtypeRow{Dtype::i8, "I8", 8},
    DtypeRow{Dtype::f8_e5m2, "F8_E5M2", 8},
    DtypeRow{Dtype::f8_e4m3, "F8_E4M3", 8},
    DtypeRow{Dtype::f8_e8m0, "F8_E8M0", 8},
    DtypeRow{Dtype::f8_e4m3fnuz, "F8_E4M3FNUZ", 8},
    DtypeRow{Dtype::f8_e5m2fnuz, "F8_E5M2FNUZ", 8},
    DtypeRow{Dtype::i16, "I16", 16},
    DtypeRow{Dtype::u16, "U16", 16},
    DtypeRow{Dtype::f16, "F16", 16},
    DtypeRow{Dtype::bf16, "BF16", 16},
    DtypeRow{Dtype::i32, "I32", 32},
    DtypeRow{Dtype::u32, "U32", 32},
    DtypeRow{Dtype::f32, "F32", 32},
    DtypeRow{Dtype::c64, "C64", 64},
    DtypeRow{Dtype::f64, "F64", 64},
    DtypeRow{Dtype::i64, "I64", 64},
    DtypeRow{Dtype::u64, "U64", 64},
};
static_assert(kDtypes.size() == static_cast<std::size_t>(Dtype::u64) + 1);

[[nodiscard]] constexpr std::string_view name(Dtype dtype) noexcept {
  return kDtypes[static_cast<std::size_t>(dtype)].name;
}

// Bits per element.
[[nodiscard]] constexpr std::uint32_t bits(Dtype dtype) noexcept {
  return kDtypes[static_cast<std::size_t>(dtype)].bits;
}

// The dtype of this exact, case-sensitive name.
[[nodiscard]] constexpr std::optional<Dtype> parse_dtype(std::string_view text) noexcept {
  for (const DtypeRow& row : kDtypes) {
    if (row.name == text) return row.dtype;
  }
  return std::nullopt;
}

}  // namespace flatbed
