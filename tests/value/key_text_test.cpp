// key_text() and real_text(): the component of a key in names and paths (spec N2).
#include "value/key_text.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "base/json_write.hpp"

namespace flatbed {
namespace {

TEST(RealText, IsPythonsRepr) {
  EXPECT_EQ(real_text(0.5), "0.5");
  EXPECT_EQ(real_text(-0.0), "-0.0");
  EXPECT_EQ(real_text(1.0), "1.0");
  EXPECT_EQ(real_text(0.0001), "0.0001");
  EXPECT_EQ(real_text(0.00001), "1e-05");
  EXPECT_EQ(real_text(1e15), "1000000000000000.0");
  EXPECT_EQ(real_text(1e16), "1e+16");
  EXPECT_EQ(real_text(1.5e300), "1.5e+300");
  EXPECT_EQ(real_text(0.1), "0.1");
  EXPECT_EQ(real_text(std::numeric_limits<double>::infinity()), "inf");
  EXPECT_EQ(real_text(-std::numeric_limits<double>::infinity()), "-inf");
  EXPECT_EQ(real_text(std::numeric_limits<double>::quiet_NaN()), "nan");
}

// The tree's JSON and the names of tensors spell a float alike.
TEST(RealText, IsThatOfTheTree) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 10'000; ++i) {
    const auto number = std::bit_cast<double>(random());
    if (!std::isfinite(number)) continue;
    std::string json;
    append_json_real(json, number);
    ASSERT_EQ(real_text(number), json);
  }
}

TEST(KeyText, IsMissingForWhatHasNone) {
  ValueTree tree;
  EXPECT_EQ(key_text(tree.value(tree.add_list())), std::nullopt);
  EXPECT_EQ(key_text(tree.value(tree.add_bytes("\xff"))), std::nullopt);
  EXPECT_EQ(key_text(tree.value(tree.add_bytes_in_tensor(0))), std::nullopt);
  EXPECT_EQ(key_text(tree.value(tree.add_scalar("<c8", "12345678"))), std::nullopt);
  EXPECT_EQ(key_text(tree.value(tree.add_scalar("<i8", "short"))), std::nullopt);
}

TEST(KeyText, OfANumpyScalarFindsItsPath) {
  ValueTree tree;
  const NodeId root = tree.add_dict();
  tree.set_item(root, tree.add_scalar("<i4", std::string("\7\0\0\0", 4)), tree.add_none());
  tree.set_root(root);
  EXPECT_TRUE(tree.root().at("7"));
}

}  // namespace
}  // namespace flatbed
