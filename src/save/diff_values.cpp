#include "save/diff_values.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "cast/cast_kernel.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kBlock = 2048;  // pairs that are summed at a time
constexpr std::size_t kLanes = 16;    // independent sums, for vector units

// Copies `count` elements as numbers.
using Decode = void (*)(Dtype dtype, const std::byte* from, void* to, std::size_t count);

template <Dtype kTo>
void decode_float(Dtype dtype, const std::byte* from, void* to, std::size_t count) {
  if (dtype == kTo) {
    std::memcpy(to, from, count * (bits(kTo) / 8));
    return;
  }
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

template <typename Real>
using Block = std::array<Real, kBlock>;

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

// What the lanes of a block found.
template <typename Real>
struct Lanes {
  std::array<Real, kLanes> most{};
  std::array<Real, kLanes> most_rel{};
  std::array<double, kLanes> sums{};
  std::array<std::uint32_t, kLanes> different{};
};

// Loops of fixed length, which is what compilers need to use vector units.
template <typename Real>
Lanes<Real> sum_lanes(const Block<Real>& a, const Block<Real>& b, Block<Real>& distances) {
  Lanes<Real> lanes;
  for (std::size_t i = 0; i < kBlock; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const Real x = a[i + lane], y = b[i + lane];
      const Real distance = std::abs(x - y);
      const Real size_x = std::abs(x), size_y = std::abs(y);
      const Real larger = size_x > size_y ? size_x : size_y;
      const Real rel = distance / (larger > 0 ? larger : Real{1});
      distances[i + lane] = distance;
      lanes.most[lane] = distance > lanes.most[lane] ? distance : lanes.most[lane];
      lanes.most_rel[lane] = rel > lanes.most_rel[lane] ? rel : lanes.most_rel[lane];
      lanes.sums[lane] += static_cast<double>(distance);
      lanes.different[lane] += x != y ? 1 : 0;
    }
  }
  return lanes;
}

template <typename Real>
void add_block(const Block<Real>& a, const Block<Real>& b, std::uint64_t first, ValueSums& sums) {
  Block<Real> distances;
  const Lanes<Real> lanes = sum_lanes(a, b, distances);
  double sum = 0;
  for (const double lane : lanes.sums) sum += lane;
  // One NaN or infinity makes the sum one too. Then the pairs are looked at one by one.
  if (!std::isfinite(sum)) {
    for (std::size_t i = 0; i < kBlock; ++i)
      add_pair(static_cast<double>(a[i]), static_cast<double>(b[i]), first + i, sums);
    return;
  }
  sums.pairs += kBlock;
  sums.sum_abs += sum;
  for (const std::uint32_t lane : lanes.different) sums.found.different += lane;
  sums.found.max_rel =
      std::max(sums.found.max_rel, static_cast<double>(*std::ranges::max_element(lanes.most_rel)));
  const Real most = *std::ranges::max_element(lanes.most);
  if (most == 0 || (sums.found.worst && static_cast<double>(most) <= sums.found.max_abs)) return;
  sums.found.max_abs = static_cast<double>(most);
  sums.found.worst =
      first + static_cast<std::uint64_t>(std::ranges::find(distances, most) - distances.begin());
}

template <typename Real>
void add_all(const ValuePairs& pairs, Decode decode_a, Decode decode_b, ValueSums& sums) {
  const std::size_t size_a = bits(pairs.dtype_a) / 8, size_b = bits(pairs.dtype_b) / 8;
  const std::size_t count = pairs.a.size() / size_a;
  Block<Real> a, b;
  for (std::size_t at = 0; at < count; at += kBlock) {
    const std::size_t part = std::min(kBlock, count - at);
    decode_a(pairs.dtype_a, pairs.a.data() + at * size_a, a.data(), part);
    decode_b(pairs.dtype_b, pairs.b.data() + at * size_b, b.data(), part);
    const std::uint64_t first = pairs.first + at;
    if (part == kBlock) {
      add_block(a, b, first, sums);
      continue;
    }
    for (std::size_t i = 0; i < part; ++i)
      add_pair(static_cast<double>(a[i]), static_cast<double>(b[i]), first + i, sums);
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
    add_all<float>(pairs, decode_float<Dtype::f32>, decode_float<Dtype::f32>, sums);
  } else {
    add_all<double>(pairs, decode_as_double(pairs.dtype_a), decode_as_double(pairs.dtype_b), sums);
  }
}

}  // namespace flatbed
