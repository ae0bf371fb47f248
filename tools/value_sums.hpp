// ValueSums: the smallest and largest of many values and their sum, from their little-endian bytes,
// fast enough for whole models. Plain data; the functions are pure.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "flatbed/dtype.hpp"

namespace flatbed::tool {

struct ValueSums {
  std::uint64_t finite = 0, nans = 0, infinities = 0;
  long double min = std::numeric_limits<long double>::infinity();
  long double max = -std::numeric_limits<long double>::infinity();
  long double sum = 0;

  void add(const ValueSums& other) {
    finite += other.finite;
    nans += other.nans;
    infinities += other.infinities;
    min = std::min(min, other.min);
    max = std::max(max, other.max);
    sum += other.sum;
  }

  // Adds finite values of which these are the smallest, the largest and the sum.
  void add_sum(long double least, long double most, long double total, std::uint64_t count) {
    finite += count;
    min = std::min(min, least);
    max = std::max(max, most);
    sum += total;
  }

  void add_value(long double value, std::uint64_t times) {
    if (times == 0) return;
    if (std::isnan(value)) {
      nans += times;
    } else if (std::isinf(value)) {
      infinities += times;
    } else {
      finite += times;
      min = std::min(min, value);
      max = std::max(max, value);
      sum += value * static_cast<long double>(times);
    }
  }
};

// False for complex numbers, which have no order, and for 6-bit floats, which do not end at bytes.
[[nodiscard]] bool has_order(Dtype dtype) noexcept;

// Adds the values that `bytes` hold, a multiple of the dtype's size. The dtype must have an order.
void add_values(Dtype dtype, std::span<const std::byte> bytes, ValueSums& seen);

}  // namespace flatbed::tool
