// NameIndex: finds every name once, whatever the names are and however many.
#include "io/name_index.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/str_cat.hpp"

namespace flatbed {
namespace {

TEST(NameIndex, FindsWhatWasInserted) {
  const std::vector<std::string> names = {"weight", "", std::string("a\0b", 3), "a", "bias"};
  const auto text_of = [&](std::uint32_t n) -> std::string_view { return names[n]; };
  NameIndex index;
  for (std::uint32_t i = 0; i < names.size(); ++i)
    EXPECT_EQ(index.insert(names[i], i, text_of), std::nullopt);
  EXPECT_EQ(index.size(), names.size());
  for (std::uint32_t i = 0; i < names.size(); ++i) EXPECT_EQ(index.find(names[i], text_of), i);
  EXPECT_EQ(index.find("b", text_of), std::nullopt);
}

TEST(NameIndex, ReturnsTheFirstOfEqualNames) {
  const std::vector<std::string> names = {"a", "b", "a"};
  const auto text_of = [&](std::uint32_t n) -> std::string_view { return names[n]; };
  NameIndex index;
  index.insert("a", 0, text_of);
  index.insert("b", 1, text_of);
  EXPECT_EQ(index.insert("a", 2, text_of), 0u);
  EXPECT_EQ(index.size(), 2u);
  EXPECT_EQ(index.find("a", text_of), 0u);
}

TEST(NameIndex, OfNothingFindsNothing) {
  const NameIndex index;
  EXPECT_EQ(index.find("a", [](std::uint32_t) { return std::string_view(); }), std::nullopt);
  EXPECT_EQ(index.size(), 0u);
}

TEST(NameIndex, GrowsFromAnyExpectation) {
  std::vector<std::string> names;
  for (int i = 0; i < 20'000; ++i) names.push_back(str_cat("layers.", i, ".weight"));
  const auto text_of = [&](std::uint32_t n) -> std::string_view { return names[n]; };
  for (const std::size_t expected : {0u, 1u, 20'000u, 100'000u}) {
    NameIndex index(expected);
    for (std::uint32_t i = 0; i < names.size(); ++i)
      ASSERT_EQ(index.insert(names[i], i, text_of), std::nullopt);
    const NameIndex moved = std::move(index);
    for (std::uint32_t i = 0; i < names.size(); ++i) ASSERT_EQ(moved.find(names[i], text_of), i);
    EXPECT_EQ(moved.find("layers.20000.weight", text_of), std::nullopt);
  }
}

TEST(NameIndex, InsertsAllUpToTheFirstNameThatAppearsTwice) {
  std::vector<std::string> names;
  for (int i = 0; i < 1'000; ++i) names.push_back(str_cat("layers.", i, ".weight"));
  const auto text_of = [&](std::uint32_t n) -> std::string_view { return names[n]; };
  for (const std::uint32_t count : {0u, 1u, 15u, 16u, 17u, 1'000u}) {
    NameIndex index;
    EXPECT_EQ(index.insert_all(count, text_of), std::nullopt);
    EXPECT_EQ(index.size(), count);
    for (std::uint32_t i = 0; i < names.size(); ++i)
      ASSERT_EQ(index.find(names[i], text_of).value_or(i), i);
    EXPECT_EQ(index.find(names.back(), text_of).has_value(), count == names.size());
  }
  names[700] = names[3];
  names[701] = names[2];
  EXPECT_EQ(NameIndex().insert_all(1'000, text_of), 700u);
}

// Were the seed known, a file could choose names that all meet in one slot.
TEST(NameIndex, RenumbersWhatItHolds) {
  const std::vector<std::string> names{"a", "b", "c"};
  const auto text_of = [&](std::uint32_t n) { return std::string_view(names[n % 10]); };
  NameIndex index;
  for (std::uint32_t n = 0; n < names.size(); ++n) index.insert(names[n], n, text_of);
  index.renumber([](std::uint32_t n) { return n + 10; });
  EXPECT_EQ(index.find("c", text_of), 12u);
  EXPECT_EQ(index.find("d", text_of), std::nullopt);
}

TEST(NameIndex, HashesWithAnotherSeedEachTime) { EXPECT_NE(random_seed(), random_seed()); }

}  // namespace
}  // namespace flatbed
