#include "save/diff_values.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "cast/cast_avx2.hpp"
#include "cast/cast_kernel.hpp"
#include "save/value_lanes.hpp"

namespace flatbed {

namespace {

// Copies `count` elements as numbers.
using Decode = void (*)(Dtype dtype, const std::byte* from, void* to, std::size_t count);

// `dtype` is not kTo.
template <Dtype kTo>
void decode_float(Dtype dtype, const std::byte* from, void* to, std::size_t count) {
  CastCounts ignored;
  cast_kernel(dtype, kTo)(from, static_cast<std::byte*>(to), count, ignored);
}

template <typename Stored>
void decode_integer(Dtype, const std::byte* from, void* to, std::size_t count) {
  auto* const out = static_cast<double*>(to);
  for (std::size_t i = 0; i < count; ++i) {
    Stored value;
    std::memcpy(&value, from + i * sizeof(Stored), sizeof value);
    out[i] = static_cast<double>(value);
  }
}

// Whether F32 holds each of its values.
bool is_small_float(Dtype dtype) noexcept {
  return dtype != Dtype::f64 &&
         (dtype == Dtype::f32 || cast_kernel(dtype, Dtype::f32, CastChoice{}) != nullptr);
}

Decode decode_as_double(Dtype dtype) noexcept {
  switch (dtype) {
    case Dtype::boolean:
    case Dtype::u8:
      return decode_integer<std::uint8_t>;
    case Dtype::i8:
      return decode_integer<std::int8_t>;
    case Dtype::i16:
      return decode_integer<std::int16_t>;
    case Dtype::u16:
      return decode_integer<std::uint16_t>;
    case Dtype::i32:
      return decode_integer<std::int32_t>;
    case Dtype::u32:
      return decode_integer<std::uint32_t>;
    case Dtype::i64:
      return decode_integer<std::int64_t>;
    case Dtype::u64:
      return decode_integer<std::uint64_t>;
    default:
      return dtype == Dtype::f64 || is_small_float(dtype) ? decode_float<Dtype::f64> : nullptr;
  }
}

// One pair, whatever it holds.
void add_pair(double a, double b, std::uint64_t element, ValueSums& sums) {
  sums.found.nans_a += std::isnan(a) ? 1 : 0;
  sums.found.nans_b += std::isnan(b) ? 1 : 0;
  if (std::isnan(a) || std::isnan(b)) {
    sums.found.different += std::isnan(a) != std::isnan(b) ? 1 : 0;
    return;
  }
  ++sums.pairs;
  if (a == b) return;
  const double distance = std::abs(a - b);
  const double larger = std::max(std::abs(a), std::abs(b));
  ++sums.found.different;
  sums.sum_abs += distance;
  double rel = std::isinf(larger) ? 1.0 : distance / larger;
  if (std::isinf(rel)) rel = std::abs(a / larger - b / larger);  // the distance is, a and b are not
  sums.found.max_rel = std::max(sums.found.max_rel, rel);
  if (sums.found.worst && distance <= sums.found.max_abs) return;
  sums.found.max_abs = distance;
  sums.found.worst = element;
}

template <typename Real>
Real real_at(const std::byte* reals, std::size_t i) {
  Real value;
  std::memcpy(&value, reals + i * sizeof value, sizeof value);
  return value;
}

template <typename Real>
void add_one_by_one(const std::byte* a, const std::byte* b, std::size_t count, std::uint64_t first,
                    ValueSums& sums) {
  for (std::size_t i = 0; i < count; ++i) {
    add_pair(static_cast<double>(real_at<Real>(a, i)), static_cast<double>(real_at<Real>(b, i)),
             first + i, sums);
  }
}

template <typename Real>
void add_block(const std::byte* a, const std::byte* b, std::uint64_t first,
               SumLanes<Real> sum_lanes, ValueSums& sums) {
  const LaneSums<Real> found = sum_lanes(a, b);
  if (!std::isfinite(found.sum)) {
    add_one_by_one<Real>(a, b, kValueBlock, first, sums);
    return;
  }
  sums.pairs += kValueBlock;
  sums.sum_abs += found.sum;
  sums.found.different += found.different;
  sums.found.max_rel = std::max(sums.found.max_rel, static_cast<double>(found.most_rel));
  const auto most = static_cast<double>(found.most);
  if (most == 0 || (sums.found.worst && most <= sums.found.max_abs)) return;
  sums.found.max_abs = most;
  std::size_t worst = 0;
  while (worst + 1 < kValueBlock &&
         std::abs(real_at<Real>(a, worst) - real_at<Real>(b, worst)) != found.most)
    ++worst;
  sums.found.worst = first + worst;
}

// The elements of one side as reals, a block at a time.
template <typename Real>
class Reals {
 public:
  Reals(Dtype dtype, std::span<const std::byte> bytes, Decode decode)
      : dtype_(dtype), size_(bits(dtype) / 8), bytes_(bytes), decode_(decode) {}

  [[nodiscard]] std::size_t count() const noexcept { return bytes_.size() / size_; }

  // `count` of them, from element `at` on; valid until the next call.
  const std::byte* read(std::size_t at, std::size_t count) {
    const std::byte* const from = bytes_.data() + at * size_;
    if (dtype_ == (sizeof(Real) == 4 ? Dtype::f32 : Dtype::f64)) return from;
    decode_(dtype_, from, block_.data(), count);
    return reinterpret_cast<const std::byte*>(block_.data());
  }

 private:
  Dtype dtype_;
  std::size_t size_;
  std::span<const std::byte> bytes_;
  Decode decode_;
  std::array<Real, kValueBlock> block_;
};

template <typename Real>
void add_all(const ValuePairs& pairs, Decode decode_a, Decode decode_b, SumLanes<Real> sum_lanes,
             ValueSums& sums) {
  Reals<Real> a(pairs.dtype_a, pairs.a, decode_a), b(pairs.dtype_b, pairs.b, decode_b);
  for (std::size_t at = 0; at < a.count(); at += kValueBlock) {
    const std::size_t part = std::min(kValueBlock, a.count() - at);
    const std::byte* const x = a.read(at, part);
    const std::byte* const y = b.read(at, part);
    if (part == kValueBlock) {
      add_block<Real>(x, y, pairs.first + at, sum_lanes, sums);
    } else {
      add_one_by_one<Real>(x, y, part, pairs.first + at, sums);
    }
  }
}

}  // namespace

void ValueSums::add(const ValueSums& other) {
  const bool is_worse =
      other.found.worst &&
      (!found.worst || other.found.max_abs > found.max_abs ||
       (other.found.max_abs == found.max_abs && *other.found.worst < *found.worst));
  if (is_worse) {
    found.max_abs = other.found.max_abs;
    found.worst = other.found.worst;
  }
  found.max_rel = std::max(found.max_rel, other.found.max_rel);
  found.different += other.found.different;
  found.nans_a += other.found.nans_a;
  found.nans_b += other.found.nans_b;
  sum_abs += other.sum_abs;
  pairs += other.pairs;
}

ValueDifference ValueSums::result() const {
  ValueDifference all = found;
  all.mean_abs = pairs == 0 ? 0 : sum_abs / static_cast<double>(pairs);
  return all;
}

bool has_values(Dtype a, Dtype b) noexcept {
  return decode_as_double(a) != nullptr && decode_as_double(b) != nullptr;
}

void add_values(const ValuePairs& pairs, ValueSums& sums) {
  if (is_small_float(pairs.dtype_a) && is_small_float(pairs.dtype_b)) {
    add_all<float>(pairs, decode_float<Dtype::f32>, decode_float<Dtype::f32>,
                   has_avx2() ? sum_floats_avx2 : sum_floats, sums);
  } else {
    add_all<double>(pairs, decode_as_double(pairs.dtype_a), decode_as_double(pairs.dtype_b),
                    sum_doubles, sums);
  }
}

}  // namespace flatbed
