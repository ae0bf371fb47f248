// The kernels of every path against a slow implementation: all codes of 8 and 16 bits, the borders
// between the values of the new dtype, and random bits. FLATBED_CAST_VALUES sets the number of the
// latter for each pair of dtypes.
#include "cast/cast_kernel.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cfenv>
#include <cmath>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "support/slow_cast.hpp"

namespace flatbed {
namespace {

using test::slow_cast;
using test::slow_load;
using test::slow_value;
using test::SlowCast;

std::size_t nbytes_of(Dtype dtype) { return bits(dtype) / 8; }

void append(std::string& bytes, Dtype dtype, std::uint64_t code) {
  bytes.append(reinterpret_cast<const char*>(&code), nbytes_of(dtype));
}

// All codes of a dtype of 8 or 16 bits.
std::string all_codes(Dtype dtype) {
  std::string bytes;
  for (std::uint64_t code = 0; code < std::uint64_t{1} << bits(dtype); ++code)
    append(bytes, dtype, code);
  return bytes;
}

std::string random_codes(Dtype dtype, std::size_t count, unsigned seed) {
  std::mt19937_64 random(seed);
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) append(bytes, dtype, random());
  return bytes;
}

// Values as numbers mostly are: no exponent is rarer than another one near 0.
std::string usual_codes(Dtype dtype, std::size_t count, unsigned seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> exponent(-60, 20);
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) {
    const double value = normal(random) * std::exp2(exponent(random));
    append(bytes, dtype,
           dtype == Dtype::f64
               ? std::bit_cast<std::uint64_t>(value)
               : std::uint64_t{std::bit_cast<std::uint32_t>(static_cast<float>(value))});
  }
  return bytes;
}

// An F32 or F64 and its two neighbours on either side, with both signs.
void append_around(std::string& bytes, Dtype dtype, long double value) {
  const std::uint64_t code = dtype == Dtype::f64
                                 ? std::bit_cast<std::uint64_t>(static_cast<double>(value))
                                 : std::bit_cast<std::uint32_t>(static_cast<float>(value));
  for (std::uint64_t step = 0; step < 5; ++step) {
    append(bytes, dtype, code + step - 2);
    append(bytes, dtype, (code + step - 2) ^ std::uint64_t{1} << (bits(dtype) - 1));
  }
}

// Every value of `to`, a dtype of at most 16 bits, and the middle between it and the next one.
std::string borders(Dtype from, Dtype to) {
  std::string bytes;
  long double before = 0;
  long double step = 0;
  for (std::uint64_t code = 0; code < std::uint64_t{1} << (bits(to) - 1); ++code) {
    const long double value = slow_value(to, code);
    if (!std::isfinite(value)) break;
    step = value - before;
    append_around(bytes, from, value);
    append_around(bytes, from, before + step / 2);
    before = value;
  }
  append_around(bytes, from, before + step / 2);  // from here on a value is too large
  append_around(bytes, from, before + step);
  append_around(bytes, from, std::numeric_limits<long double>::infinity());
  return bytes;
}

struct Cast {
  std::string bytes;
  CastCounts counts;
};

// Compares a cast by each path, with its elements at an odd address, with the slow one.
void compare(Dtype from, Dtype to, const std::string& bytes) {
  SCOPED_TRACE(std::string(name(from)) + " to " + std::string(name(to)));
  const std::size_t count = bytes.size() / nbytes_of(from);
  Cast expected;
  if (to == Dtype::f64) {
    expected.bytes = slow_cast(from, to, bytes);
  } else {
    const SlowCast cast(to);
    for (std::size_t i = 0; i < count; ++i) {
      const test::SlowResult result = cast(from, slow_load(from, bytes, i));
      append(expected.bytes, to, result.code);
      expected.counts += result.counts;
    }
  }
  const std::string shifted = "x" + bytes;
  for (const CastPath path : cast_paths()) {
    for (const CastStores stores : {CastStores::usual, CastStores::streaming}) {
      for (const std::size_t shift : {std::size_t{0}, std::size_t{1}, nbytes_of(to)}) {
        std::string out(count * nbytes_of(to) + shift, '\0');
        CastCounts counts;
        cast_kernel(from, to, {path, stores})(
            reinterpret_cast<const std::byte*>(shifted.data() + 1),
            reinterpret_cast<std::byte*>(out.data() + shift), count, counts);
        ASSERT_TRUE(out.substr(shift) == expected.bytes) << static_cast<int>(path);
        ASSERT_EQ(counts, expected.counts) << static_cast<int>(path);
      }
    }
  }
}

std::size_t random_count() {
  const char* const text = std::getenv("FLATBED_CAST_VALUES");
  return text == nullptr ? 20'000 : static_cast<std::size_t>(std::atoll(text));
}

TEST(CastKernel, ConvertsEveryCodeOf8And16Bits) {
  for (const Dtype from : kCastableDtypes) {
    if (bits(from) > 16) continue;
    const std::string codes = all_codes(from);
    for (const Dtype to : kCastableDtypes) {
      if (to != from) compare(from, to, codes);
    }
  }
}

TEST(CastKernel, RoundsToEvenAtEveryBorder) {
  for (const Dtype from : {Dtype::f32, Dtype::f64}) {
    for (const Dtype to : kCastableDtypes) {
      if (bits(to) <= 16) compare(from, to, borders(from, to));
    }
  }
}

TEST(CastKernel, ConvertsRandomBits) {
  for (const Dtype from : {Dtype::f32, Dtype::f64}) {
    for (const Dtype to : kCastableDtypes) {
      if (to == from) continue;
      compare(from, to, random_codes(from, random_count(), 1));
      compare(from, to, usual_codes(from, random_count(), 2));
    }
  }
}

// The rest is worked out by hand.
std::uint64_t cast_one(Dtype from, Dtype to, std::uint64_t code) {
  std::uint64_t out = 0;
  CastCounts counts;
  cast_kernel(from, to)(reinterpret_cast<const std::byte*>(&code),
                        reinterpret_cast<std::byte*>(&out), 1, counts);
  return out;
}

TEST(CastKernel, RoundsOnceWhereAFloatBetweenWouldRoundTwice) {
  // 1 + 2^-11 + 2^-40 is above the middle between the halves 1 and 1 + 2^-10. As a float it is that
  // middle, which rounds to the even 1.
  const std::uint64_t value = std::bit_cast<std::uint64_t>(1 + 0x1p-11 + 0x1p-40);
  EXPECT_EQ(cast_one(Dtype::f64, Dtype::f16, value), 0x3C01U);
  EXPECT_EQ(cast_one(Dtype::f64, Dtype::f16, std::bit_cast<std::uint64_t>(1 + 0x1p-11)), 0x3C00U);
  EXPECT_EQ(cast_one(Dtype::f64, Dtype::bf16, std::bit_cast<std::uint64_t>(1 + 0x1p-8 + 0x1p-40)),
            0x3F81U);
}

TEST(CastKernel, KeepsTheSignOfNanAndNotItsPayload) {
  EXPECT_EQ(cast_one(Dtype::f32, Dtype::bf16, 0x7F80'0001), 0x7FC0U);
  EXPECT_EQ(cast_one(Dtype::f32, Dtype::bf16, 0xFFFF'FFFF), 0xFFC0U);
  EXPECT_EQ(cast_one(Dtype::f32, Dtype::f16, 0xFFC0'1234), 0xFE00U);
  EXPECT_EQ(cast_one(Dtype::f32, Dtype::f8_e4m3, 0xFFC0'0000), 0xFFU);
  EXPECT_EQ(cast_one(Dtype::f32, Dtype::f8_e5m2, 0x7FC0'0000), 0x7FU);
  EXPECT_EQ(cast_one(Dtype::f32, Dtype::f8_e4m3fnuz, 0x7FC0'0000), 0x80U);
  EXPECT_EQ(cast_one(Dtype::f8_e5m2fnuz, Dtype::f32, 0x80), 0x7FC0'0000U);
  EXPECT_EQ(cast_one(Dtype::bf16, Dtype::f32, 0xFF81), 0xFFC0'0000U);
  EXPECT_EQ(cast_one(Dtype::f16, Dtype::f64, 0x7C01), 0x7FF8'0000'0000'0000U);
}

TEST(CastKernel, TreatsLargeMagnitudesAsTheirDtypeDoes) {
  const auto float_of = [](float value) { return std::bit_cast<std::uint32_t>(value); };
  EXPECT_EQ(cast_one(Dtype::f32, Dtype::f16, float_of(65519.0F)), 0x7BFFU);
  EXPECT_EQ(cast_one(Dtype::f32, Dtype::f16, float_of(65520.0F)), 0x7C00U);
  EXPECT_EQ(cast_one(Dtype::f32, Dtype::f8_e4m3, float_of(1e30F)), 0x7EU);  // 448
  EXPECT_EQ(cast_one(Dtype::f32, Dtype::f8_e4m3, float_of(-INFINITY)), 0xFEU);
  EXPECT_EQ(cast_one(Dtype::f32, Dtype::f8_e5m2, float_of(61440.0F)), 0x7CU);
  EXPECT_EQ(cast_one(Dtype::f32, Dtype::f8_e4m3fnuz, float_of(-248.0F)), 0x80U);
  EXPECT_EQ(cast_one(Dtype::f32, Dtype::f8_e5m2fnuz, float_of(INFINITY)), 0x80U);
  EXPECT_EQ(cast_one(Dtype::f32, Dtype::f8_e5m2fnuz, float_of(-0.0F)), 0U);
}

TEST(CastKernel, CountsEachKindOfValueThatDoesNotFit) {
  const std::vector<float> values{1, 500, -INFINITY, NAN, 448, 460};
  std::vector<std::uint8_t> out(values.size());
  const auto counts_of = [&](Dtype to) {
    CastCounts counts;
    cast_kernel(Dtype::f32, to)(reinterpret_cast<const std::byte*>(values.data()),
                                reinterpret_cast<std::byte*>(out.data()), values.size(), counts);
    return counts;
  };
  EXPECT_EQ(counts_of(Dtype::f8_e4m3), (CastCounts{.saturated = 3}));
  EXPECT_EQ(counts_of(Dtype::f8_e5m2), CastCounts{});
  EXPECT_EQ(counts_of(Dtype::f8_e4m3fnuz), (CastCounts{.nan = 4}));
}

TEST(CastKernel, IsNullForOtherDtypes) {
  EXPECT_EQ(cast_kernel(Dtype::f32, Dtype::f32), nullptr);
  EXPECT_EQ(cast_kernel(Dtype::i64, Dtype::f32), nullptr);
  EXPECT_EQ(cast_kernel(Dtype::f32, Dtype::f8_e8m0), nullptr);
}

// An engine may have set its threads to flush subnormal values or to round otherwise.
TEST(CastKernel, DoesNotDependOnTheThreadsRounding) {
  const std::string floats = borders(Dtype::f32, Dtype::f16) + random_codes(Dtype::f32, 1000, 3);
  const std::string doubles = random_codes(Dtype::f64, 1000, 4) + usual_codes(Dtype::f64, 1000, 5) +
                              borders(Dtype::f64, Dtype::f8_e5m2);
  const std::string halves = all_codes(Dtype::f16);
  std::vector<Cast> usual;
  const auto run = [&] {
    std::vector<Cast> casts;
    const auto add = [&](Dtype from, Dtype to, const std::string& bytes) {
      Cast cast{std::string(bytes.size() / nbytes_of(from) * nbytes_of(to), '\0'), {}};
      cast_kernel(from, to)(reinterpret_cast<const std::byte*>(bytes.data()),
                            reinterpret_cast<std::byte*>(cast.bytes.data()),
                            bytes.size() / nbytes_of(from), cast.counts);
      casts.push_back(std::move(cast));
    };
    add(Dtype::f32, Dtype::f16, floats);
    add(Dtype::f32, Dtype::f64, floats);
    add(Dtype::f64, Dtype::f32, doubles);
    add(Dtype::f16, Dtype::f32, halves);
    return casts;
  };
  usual = run();
  std::fesetround(FE_UPWARD);
#if defined(__x86_64__)
  _mm_setcsr(_mm_getcsr() | 0x8040);  // flush results and operands to zero
#endif
  const std::vector<Cast> other = run();
  const int mode = std::fegetround();
#if defined(__x86_64__)
  _mm_setcsr(0x1F80);
#endif
  std::fesetround(FE_TONEAREST);
  EXPECT_EQ(mode, FE_UPWARD);
  for (std::size_t i = 0; i < usual.size(); ++i) {
    EXPECT_TRUE(other[i].bytes == usual[i].bytes) << i;
    EXPECT_EQ(other[i].counts, usual[i].counts) << i;
  }
}

}  // namespace
}  // namespace flatbed
