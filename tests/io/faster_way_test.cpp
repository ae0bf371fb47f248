// FasterWay: which of two ways is taken, by how long both took.
#include "io/faster_way.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <vector>

namespace flatbed {
namespace {

using namespace std::chrono_literals;

// The way after tries that took these times, for `nbytes` each.
unsigned way_after(const std::vector<std::chrono::microseconds>& times,
                   const std::vector<std::uint64_t>& nbytes) {
  FasterWay ways;
  for (std::size_t i = 0; i < times.size(); ++i) {
    EXPECT_EQ(ways.way(), i % 2) << "tried by turns";
    EXPECT_FALSE(ways.is_chosen());
    ways.took(times[i], nbytes[i]);
  }
  EXPECT_TRUE(ways.is_chosen());
  return ways.way();
}

TEST(FasterWay, IsTheOneThatTookLessTime) {
  const std::vector<std::uint64_t> same(FasterWay::kTries, 1000);
  EXPECT_EQ(way_after({1us, 2us, 1us, 2us, 1us, 2us, 1us, 2us}, same), 0u);
  EXPECT_EQ(way_after({2us, 1us, 2us, 1us, 2us, 1us, 2us, 1us}, same), 1u);
}

TEST(FasterWay, IsJudgedByTheTimeOfAByte) {
  const std::vector<std::uint64_t> fewer{1000, 100, 1000, 100, 1000, 100, 1000, 100};
  EXPECT_EQ(way_after({5us, 1us, 5us, 1us, 5us, 1us, 5us, 1us}, fewer), 0u);
  EXPECT_EQ(way_after({20us, 1us, 20us, 1us, 20us, 1us, 20us, 1us}, fewer), 1u);
}

TEST(FasterWay, IsJudgedByTheBestTries) {
  const std::vector<std::uint64_t> same(FasterWay::kTries, 1000);
  EXPECT_EQ(way_after({900us, 2us, 900us, 2us, 900us, 2us, 1us, 2us}, same), 0u);
  EXPECT_EQ(way_after({2us, 900us, 2us, 1us, 2us, 900us, 2us, 900us}, same), 1u);
}

TEST(FasterWay, IsKept) {
  FasterWay ways;
  for (unsigned i = 0; i < FasterWay::kTries; ++i) ways.took(i % 2 == 0 ? 1us : 2us, 1000);
  for (int i = 0; i < 20; ++i) ways.took(1s, 1);
  EXPECT_TRUE(ways.is_chosen());
  EXPECT_EQ(ways.way(), 0u);
}

}  // namespace
}  // namespace flatbed
