// number_key(): one form for all numbers that are equal in Python.
#include "value/number_key.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

namespace flatbed {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Numbers {
  ValueTree tree;

  Value integer(std::int64_t value) { return tree.value(tree.add_integer(value)); }
  Value big(std::string_view hex) { return tree.value(tree.add_big_integer(hex)); }
  Value real(double value) { return tree.value(tree.add_real(value)); }
  Value boolean(bool value) { return tree.value(tree.add_boolean(value)); }
  template <typename Number>
  Value scalar(const char* typestr, Number value) {
    std::string raw(sizeof value, '\0');
    std::memcpy(raw.data(), &value, sizeof value);
    return tree.value(tree.add_scalar(typestr, raw));
  }
  Value complex(NodeId real, NodeId imaginary) {
    const NodeId arguments = tree.add_tuple(std::array{real, imaginary});
    return tree.value(tree.add_object(tree.add_global("builtins", "complex"), arguments));
  }
};

bool same(Value a, Value b) {
  const std::optional<NumberKey> left = number_key(a);
  return left.has_value() && left == number_key(b);
}

TEST(NumberKey, IsTheSameForBoolsIntsAndFloats) {
  Numbers n;
  EXPECT_TRUE(same(n.integer(1), n.boolean(true)));
  EXPECT_TRUE(same(n.integer(0), n.boolean(false)));
  EXPECT_TRUE(same(n.integer(1), n.real(1.0)));
  EXPECT_TRUE(same(n.integer(0), n.real(-0.0)));
  EXPECT_TRUE(same(n.integer(-3), n.real(-3.0)));
  EXPECT_FALSE(same(n.integer(1), n.real(1.5)));
  EXPECT_FALSE(same(n.integer(1), n.integer(-1)));
  EXPECT_FALSE(same(n.boolean(true), n.boolean(false)));
}

TEST(NumberKey, IsTheSameAtTheEdgesOf64Bits) {
  Numbers n;
  const double two_to_63 = std::ldexp(1.0, 63);
  EXPECT_TRUE(same(n.integer(INT64_MIN), n.real(-two_to_63)));
  EXPECT_TRUE(same(n.big("8000000000000000"), n.real(two_to_63)));
  EXPECT_TRUE(same(n.big("ffffffffffffffff"), n.scalar("<u8", UINT64_MAX)));
  EXPECT_TRUE(same(n.big("10000000000000000"), n.real(2 * two_to_63)));
  EXPECT_TRUE(same(n.big("-10000000000000000"), n.real(-2 * two_to_63)));
  EXPECT_TRUE(same(n.big("400000000000000000"), n.real(std::ldexp(1.0, 70))));
  EXPECT_FALSE(same(n.integer(INT64_MAX), n.real(two_to_63)));
  EXPECT_FALSE(same(n.integer(INT64_MIN), n.real(two_to_63)));
  EXPECT_FALSE(same(n.big("8000000000000000"), n.integer(INT64_MIN)));
  EXPECT_FALSE(same(n.big("8000000000000001"), n.real(two_to_63)));
  EXPECT_FALSE(same(n.big("-8000000000000001"), n.real(-two_to_63)));
  EXPECT_FALSE(same(n.big("10000000000000001"), n.real(2 * two_to_63)));
  EXPECT_FALSE(same(n.big("10000000000000000"), n.big("-10000000000000000")));
}

TEST(NumberKey, IsTheSameForIntsOf53BitsAndZeros) {
  Numbers n;
  const double most = std::numeric_limits<double>::max();  // 53 ones, then 971 zeros
  EXPECT_TRUE(same(n.big("fffffffffffff8" + std::string(242, '0')), n.real(most)));
  EXPECT_TRUE(same(n.big("-fffffffffffff8" + std::string(242, '0')), n.real(-most)));
  EXPECT_FALSE(same(n.big("fffffffffffffc" + std::string(242, '0')), n.real(most)));
  EXPECT_FALSE(same(n.big("1" + std::string(256, '0')), n.real(kInfinity)));
  EXPECT_TRUE(same(n.big("1" + std::string(256, '0')), n.big("1" + std::string(256, '0'))));
  EXPECT_FALSE(same(n.big("1" + std::string(256, '0')), n.big("1" + std::string(257, '0'))));
  EXPECT_TRUE(same(n.real(kInfinity), n.real(kInfinity)));
  EXPECT_FALSE(same(n.real(kInfinity), n.real(-kInfinity)));
}

TEST(NumberKey, IsTheSameForIntsWhoeverWroteThem) {
  Numbers n;
  EXPECT_TRUE(same(n.big("1f"), n.integer(31)));
  EXPECT_TRUE(same(n.big("-1f"), n.integer(-31)));
  EXPECT_TRUE(same(n.big("-7fffffffffffffff"), n.integer(-INT64_MAX)));
  EXPECT_TRUE(same(n.big("001f"), n.integer(31)));
  EXPECT_FALSE(same(n.big(""), n.integer(0)));
}

TEST(NumberKey, IsTheSameForNumpyScalars) {
  Numbers n;
  EXPECT_TRUE(same(n.scalar("|i1", std::int8_t{-3}), n.integer(-3)));
  EXPECT_TRUE(same(n.scalar("|b1", char{1}), n.integer(1)));
  EXPECT_TRUE(same(n.scalar("<u8", std::uint64_t{7}), n.real(7.0)));
  EXPECT_TRUE(same(n.scalar("<f4", 0.5F), n.real(0.5)));
  EXPECT_FALSE(same(n.scalar("<f4", 0.1F), n.real(0.1)));  // they differ as keys of a dict
  EXPECT_EQ(number_key(n.scalar("<U1", 'a')), std::nullopt);
  EXPECT_EQ(number_key(n.scalar("<M8[s]", std::int64_t{1})), std::nullopt);
}

TEST(NumberKey, IsTheSameForComplexNumbers) {
  Numbers n;
  const NodeId one = n.tree.add_real(1);
  const NodeId two = n.tree.add_integer(2);
  const NodeId minus_zero = n.tree.add_real(-0.0);
  const std::array<double, 2> pair{1, 2};
  EXPECT_TRUE(same(n.complex(one, minus_zero), n.integer(1)));
  EXPECT_TRUE(same(n.complex(one, two), n.complex(one, two)));
  EXPECT_TRUE(same(n.complex(one, two), n.scalar("<c16", pair)));
  EXPECT_FALSE(same(n.complex(one, two), n.integer(1)));
  EXPECT_FALSE(same(n.complex(one, two), n.complex(two, one)));
}

TEST(NumberKey, IsMissingForNansAndWhatIsNoNumber) {
  Numbers n;
  const double nan = std::nan("");
  const NodeId one = n.tree.add_real(1);
  EXPECT_EQ(number_key(n.real(nan)), std::nullopt);
  EXPECT_EQ(number_key(n.scalar("<f8", nan)), std::nullopt);
  EXPECT_EQ(number_key(n.complex(one, n.tree.add_real(nan))), std::nullopt);
  EXPECT_EQ(number_key(n.complex(n.tree.add_real(nan), one)), std::nullopt);
  EXPECT_EQ(number_key(n.complex(n.tree.add_string("1"), one)), std::nullopt);
  EXPECT_EQ(number_key(n.tree.value(n.tree.add_none())), std::nullopt);
  EXPECT_EQ(number_key(n.tree.value(n.tree.add_string("1"))), std::nullopt);
  EXPECT_EQ(number_key(n.tree.value(kNoNode)), std::nullopt);
}

}  // namespace
}  // namespace flatbed
