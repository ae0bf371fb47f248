// The inner loop of diff_values.cpp: sums over a block of pairs of reals, with vector units where
// there are some. Pure functions; thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>

namespace flatbed {

inline constexpr std::size_t kValueBlock = 512;  // pairs of a block

// Over the pairs of a block, a - b. Of no use if `sum` is not finite, which one NaN or infinity is
// enough for.
template <typename Real>
struct LaneSums {
  double sum = 0;     // of |a - b|
  Real most = 0;      // |a - b|
  Real most_rel = 0;  // |a - b| / max(|a|, |b|)
  std::uint32_t different = 0;
};

// `a` and `b` hold kValueBlock reals each, and may have any alignment.
template <typename Real>
using SumLanes = LaneSums<Real> (*)(const std::byte* a, const std::byte* b);

[[nodiscard]] LaneSums<float> sum_floats(const std::byte* a, const std::byte* b);
[[nodiscard]] LaneSums<double> sum_doubles(const std::byte* a, const std::byte* b);

// With AVX2, which the processor must have: see has_avx2(). The sum is added up in another order.
[[nodiscard]] LaneSums<float> sum_floats_avx2(const std::byte* a, const std::byte* b);

}  // namespace flatbed
