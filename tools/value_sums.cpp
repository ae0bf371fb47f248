#include "value_sums.hpp"

#include <array>
#include <cstring>
#include <type_traits>

#include "float_values.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kBlock = 2048;  // values that are summed at a time
constexpr std::size_t kLanes = 16;    // independent sums, for vector units

// In what a block is summed: exact for integers of up to 32 bits.
template <typename T>
using BlockSum = std::conditional_t<std::is_integral_v<T> && sizeof(T) <= 4, std::int64_t, double>;

template <typename T>
void add_block(std::span<const T> values, ValueSums& seen) {
  std::array<T, kLanes> low, high;
  std::array<BlockSum<T>, kLanes> sums{};
  low.fill(values[0]);
  high.fill(values[0]);
  const std::size_t whole = values.size() / kLanes * kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const T value = values[i + lane];
      low[lane] = value < low[lane] ? value : low[lane];
      high[lane] = value > high[lane] ? value : high[lane];
      sums[lane] += static_cast<BlockSum<T>>(value);
    }
  }
  BlockSum<T> sum = 0;
  for (const BlockSum<T> lane : sums) sum += lane;
  for (const T value : values.subspan(whole)) sum += static_cast<BlockSum<T>>(value);
  // One NaN or infinity makes the sum one too. Then the values are looked at one by one.
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(sum)) {
      for (const T value : values) seen.add_value(static_cast<long double>(value), 1);
      return;
    }
  }
  T least = *std::ranges::min_element(low), most = *std::ranges::max_element(high);
  for (const T value : values.subspan(whole)) {
    least = std::min(least, value);
    most = std::max(most, value);
  }
  seen.add_sum(static_cast<long double>(least), static_cast<long double>(most),
               static_cast<long double>(sum), values.size());
}

template <typename T>
void add_plain(Dtype, std::span<const std::byte> bytes, ValueSums& seen) {
  std::array<T, kBlock> values;
  while (bytes.size() >= sizeof(T)) {
    const std::size_t count = std::min(kBlock, bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), count * sizeof(T));
    add_block(std::span<const T>(values.data(), count), seen);
    bytes = bytes.subspan(count * sizeof(T));
  }
}

// Integers of 16 bits: their sum in a block fits into 32 bits, so that nothing is widened
// twice.
void add_whole_block(const std::array<std::int32_t, kBlock>& values, ValueSums& seen) {
  std::int32_t low = values[0], high = values[0], sum = 0;
  for (std::size_t i = 0; i < kBlock; ++i) {
    const std::int32_t value = values[i];
    low = value < low ? value : low;
    high = value > high ? value : high;
    sum += value;
  }
  seen.add_sum(low, high, sum, kBlock);
}

// Floats that were made of narrower ones. Four are added as floats, which rounds to 2^-24 of the
// largest of them; the rest is added in double.
void add_whole_block(const std::array<float, kBlock>& values, ValueSums& seen) {
  std::array<float, kLanes> low, high;
  std::array<double, kLanes> sums{};
  low.fill(values[0]);
  high.fill(values[0]);
  for (std::size_t i = 0; i < kBlock; i += 4 * kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const float* const v = values.data() + i + lane;
      const float a = v[0], b = v[kLanes], c = v[2 * kLanes], d = v[3 * kLanes];
      const float low_ab = a < b ? a : b, low_cd = c < d ? c : d;
      const float high_ab = a > b ? a : b, high_cd = c > d ? c : d;
      const float low_all = low_ab < low_cd ? low_ab : low_cd;
      const float high_all = high_ab > high_cd ? high_ab : high_cd;
      low[lane] = low_all < low[lane] ? low_all : low[lane];
      high[lane] = high_all > high[lane] ? high_all : high[lane];
      sums[lane] += static_cast<double>((a + b) + (c + d));
    }
  }
  double sum = 0;
  for (const double lane : sums) sum += lane;
  if (!std::isfinite(sum)) {
    for (const float value : values) seen.add_value(static_cast<long double>(value), 1);
    return;
  }
  seen.add_sum(*std::ranges::min_element(low), *std::ranges::max_element(high), sum, kBlock);
}

// Converts blocks of narrow values and adds them. Loops over whole blocks have a fixed length,
// which is what compilers need to use vector units.
template <typename Stored, typename T, typename Convert>
void add_converted(std::span<const std::byte> bytes, ValueSums& seen, Convert convert) {
  std::array<Stored, kBlock> raw;
  std::array<T, kBlock> values;
  for (; bytes.size() >= sizeof(raw); bytes = bytes.subspan(sizeof(raw))) {
    std::memcpy(raw.data(), bytes.data(), sizeof(raw));
    for (std::size_t i = 0; i < kBlock; ++i) values[i] = convert(raw[i]);
    add_whole_block(values, seen);
  }
  for (; bytes.size() >= sizeof(Stored); bytes = bytes.subspan(sizeof(Stored))) {
    Stored one;
    std::memcpy(&one, bytes.data(), sizeof(one));
    seen.add_value(static_cast<long double>(convert(one)), 1);
  }
}

using Counts = std::array<std::uint64_t, 256>;

Counts count_codes(std::span<const std::byte> bytes) {
  std::array<Counts, 4> counts{};  // so that equal neighbours do not wait for each other
  std::size_t i = 0;
  for (; i + 4 <= bytes.size(); i += 4) {
    for (std::size_t lane = 0; lane < 4; ++lane)
      ++counts[lane][static_cast<unsigned char>(bytes[i + lane])];
  }
  for (; i < bytes.size(); ++i) ++counts[0][static_cast<unsigned char>(bytes[i])];
  for (std::size_t code = 0; code < 256; ++code)
    counts[0][code] += counts[1][code] + counts[2][code] + counts[3][code];
  return counts[0];
}

void add_small(Dtype dtype, std::span<const std::byte> bytes, ValueSums& seen) {
  const Counts counts = count_codes(bytes);
  for (unsigned code = 0; code < 256; ++code) {
    if (dtype == Dtype::f4) {  // two in a byte
      seen.add_value(static_cast<long double>(small_value(dtype, code & 15)), counts[code]);
      seen.add_value(static_cast<long double>(small_value(dtype, code >> 4)), counts[code]);
    } else {
      seen.add_value(static_cast<long double>(small_value(dtype, code)), counts[code]);
    }
  }
}

using Add = void (*)(Dtype dtype, std::span<const std::byte> bytes, ValueSums& seen);

void add_shorts(Dtype dtype, std::span<const std::byte> bytes, ValueSums& seen) {
  if (dtype == Dtype::u16) {
    add_converted<std::uint16_t, std::int32_t>(bytes, seen, [](std::uint16_t v) { return v; });
  } else {
    add_converted<std::int16_t, std::int32_t>(bytes, seen, [](std::int16_t v) { return v; });
  }
}

// Bytes are compared as bytes, signed ones with the sign turned, so that their order is that of
// unsigned ones.
void add_bytes(Dtype dtype, std::span<const std::byte> bytes, ValueSums& seen) {
  const std::uint8_t sign = dtype == Dtype::i8 ? 0x80 : 0;
  std::array<std::uint8_t, kBlock> values;
  for (; !bytes.empty(); bytes = bytes.subspan(std::min(bytes.size(), kBlock))) {
    const std::size_t count = std::min(bytes.size(), kBlock);
    std::memcpy(values.data(), bytes.data(), count);
    std::uint8_t low = 255, high = 0;
    std::uint32_t sum = 0;
    const std::uint8_t filler = static_cast<std::uint8_t>(bytes[0]);
    std::fill(values.begin() + static_cast<std::ptrdiff_t>(count), values.end(), filler);
    for (std::uint8_t& value : values) value ^= sign;
    for (const std::uint8_t value : values) {
      low = value < low ? value : low;
      high = value > high ? value : high;
    }
    for (const std::uint8_t value : values) sum += value;
    sum -= static_cast<std::uint32_t>(kBlock - count) * (filler ^ sign);
    const auto total = static_cast<std::int64_t>(sum) - static_cast<std::int64_t>(count) * sign;
    seen.add_sum(low - sign, high - sign, static_cast<long double>(total), count);
  }
}

template <typename Stored, float (*convert)(std::uint32_t)>
void add_floats(Dtype, std::span<const std::byte> bytes, ValueSums& seen) {
  add_converted<Stored, float>(bytes, seen, [](Stored code) { return convert(code); });
}

struct AddRow {
  Dtype dtype;
  Add add;  // null: a dtype without an order, or one that does not end at bytes
};
constexpr std::array kAdds{
    AddRow{Dtype::boolean, add_bytes},
    AddRow{Dtype::f4, add_small},
    AddRow{Dtype::f6_e2m3, nullptr},
    AddRow{Dtype::f6_e3m2, nullptr},
    AddRow{Dtype::u8, add_bytes},
    AddRow{Dtype::i8, add_bytes},
    AddRow{Dtype::f8_e5m2, add_small},
    AddRow{Dtype::f8_e4m3, add_small},
    AddRow{Dtype::f8_e8m0, add_small},
    AddRow{Dtype::f8_e4m3fnuz, add_small},
    AddRow{Dtype::f8_e5m2fnuz, add_small},
    AddRow{Dtype::i16, add_shorts},
    AddRow{Dtype::u16, add_shorts},
    AddRow{Dtype::f16, add_floats<std::uint16_t, half_value>},
    AddRow{Dtype::bf16, add_floats<std::uint16_t, bfloat_value>},
    AddRow{Dtype::i32, add_plain<std::int32_t>},
    AddRow{Dtype::u32, add_plain<std::uint32_t>},
    AddRow{Dtype::f32, add_plain<float>},
    AddRow{Dtype::c64, nullptr},
    AddRow{Dtype::f64, add_plain<double>},
    AddRow{Dtype::i64, add_plain<std::int64_t>},
    AddRow{Dtype::u64, add_plain<std::uint64_t>},
};
static_assert(kAdds.size() == kDtypes.size());

}  // namespace

static_assert(std::ranges::equal(kAdds, kDtypes, {}, &AddRow::dtype, &DtypeRow::dtype));

bool has_order(Dtype dtype) noexcept {
  return kAdds[static_cast<std::size_t>(dtype)].add != nullptr;
}

void add_values(Dtype dtype, std::span<const std::byte> bytes, ValueSums& seen) {
  kAdds[static_cast<std::size_t>(dtype)].add(dtype, bytes, seen);
}

}  // namespace flatbed::tool
