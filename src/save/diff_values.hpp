// How far apart the values of two tensors are. Pure functions and plain data; thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "flatbed/diff.hpp"
#include "flatbed/dtype.hpp"

namespace flatbed {

// Sums over pairs of elements, which may be added in any order.
struct ValueSums {
  ValueDifference found;
  double sum_abs = 0;       // of all pairs without NaN
  std::uint64_t pairs = 0;  // without NaN
  void add(const ValueSums& other);
  [[nodiscard]] ValueDifference result() const;
};

// Whether elements of these dtypes can be compared as numbers: floats of at least 8 bits (not
// F8_E8M0), integers and BOOL, also with each other.
[[nodiscard]] bool has_values(Dtype a, Dtype b) noexcept;

// Elements of two tensors from element `first` on: `a` and `b` hold equally many.
struct ValuePairs {
  Dtype dtype_a;
  Dtype dtype_b;
  std::span<const std::byte> a;
  std::span<const std::byte> b;
  std::uint64_t first = 0;
};

// Adds the pairs. Floats of up to 32 bits are compared as F32, everything else as F64.
void add_values(const ValuePairs& pairs, ValueSums& sums);

}  // namespace flatbed
