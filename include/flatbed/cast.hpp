// Casts: floats of one dtype as floats of another. CastRules says which tensors of a checkpoint
// Checkpoint::cast() changes; CastReport says how many values did not fit.
//
// F64, F32, F16, BF16, F8_E4M3 (torch's float8_e4m3fn), F8_E5M2, F8_E4M3FNUZ and F8_E5M2FNUZ can be
// cast to each other. A value becomes the nearest one of the new dtype, in one step; of two equally
// near ones it becomes the even one. Where the new dtype has every value of the old one, a cast is
// exact. What is not NaN becomes, bit for bit, what PyTorch 2.14 makes of it on a CPU, except for
// F64 to the dtypes of 8 and 16 bits: PyTorch rounds twice there, by way of F32, and is sometimes
// one step off.
//
// Magnitudes that are too large, rounded:
//
//   F32, F16, BF16, F8_E5M2      infinity; infinity stays
//   F8_E4M3                      the largest value, 448; infinity too
//   F8_E4M3FNUZ, F8_E5M2FNUZ     NaN; infinity too
//
// NaN stays NaN and keeps its sign, not its payload: F64 7ff8000000000000, F32 7fc00000, F16 7e00,
// BF16 7fc0, F8_E4M3 7f, F8_E5M2 7f, each with the sign bit if the source has it; the FNUZ dtypes
// have one NaN, 80. They have no minus zero either: it becomes zero.
//
// The result does not depend on the processor, nor on the rounding mode of the calling thread.
// Plain data; thread-safe as such.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "flatbed/dtype.hpp"

namespace flatbed {

inline constexpr std::array kCastableDtypes{Dtype::f64,         Dtype::f32,        Dtype::f16,
                                            Dtype::bf16,        Dtype::f8_e4m3,    Dtype::f8_e5m2,
                                            Dtype::f8_e4m3fnuz, Dtype::f8_e5m2fnuz};

// Whether tensors can be cast from and to this dtype.
[[nodiscard]] constexpr bool is_castable(Dtype dtype) noexcept {
  for (const Dtype castable : kCastableDtypes) {
    if (castable == dtype) return true;
  }
  return false;
}

// Which tensors become `to`. Globs (* ? [...]) are compared with a tensor's name and its aliases.
struct CastRules {
  Dtype to = Dtype::bf16;
  std::vector<std::string> include = {};  // empty: every tensor of floats
  std::vector<std::string> keep = {};     // stay as they are; overrides include
};

// The values that a cast could not represent. Each value counts once.
struct CastCounts {
  std::uint64_t saturated = 0;  // larger than the largest value, which they became
  std::uint64_t infinite = 0;   // finite values that became infinite
  std::uint64_t nan = 0;        // values, also infinite ones, that became NaN

  [[nodiscard]] std::uint64_t total() const noexcept { return saturated + infinite + nan; }
  CastCounts& operator+=(const CastCounts& other) noexcept {
    saturated += other.saturated;
    infinite += other.infinite;
    nan += other.nan;
    return *this;
  }
  bool operator==(const CastCounts&) const = default;
};

// A tensor with values that its cast could not represent.
struct CastOverflow {
  std::string name;
  Dtype to = Dtype::bf16;
  CastCounts counts;
};

// What was cast on the way, by save(), save_torch() and load().
struct CastReport {
  std::uint64_t tensors = 0;            // that were cast; load() counts slices
  CastCounts counts;                    // of all of them
  std::vector<CastOverflow> overflows;  // the first 1,000 tensors with any, in the plan's order
  std::uint64_t overflowed = 0;         // the number of those tensors
};

}  // namespace flatbed
