// CastSums: sums by tensor, in the order of their numbers, and how many are listed.
#include "checkpoint/cast_sums.hpp"

#include <gtest/gtest.h>

#include <string>

namespace flatbed {
namespace {

CastOverflow numbered(std::uint32_t number) { return {std::to_string(number), Dtype::f16, {}}; }

TEST(CastSums, AddsUpByTensorInTheOrderOfNumbers) {
  CastSums sums;
  sums.add(7, {.infinite = 2});
  sums.add(3, {.nan = 1});
  sums.add(7, {.saturated = 1, .infinite = 3});
  sums.add(5, {});
  const CastReport report = sums.report(4, numbered);
  EXPECT_EQ(report.tensors, 4u);
  EXPECT_EQ(report.overflowed, 2u);
  EXPECT_EQ(report.counts, (CastCounts{.saturated = 1, .infinite = 5, .nan = 1}));
  ASSERT_EQ(report.overflows.size(), 2u);
  EXPECT_EQ(report.overflows[0].name, "3");
  EXPECT_EQ(report.overflows[1].name, "7");
  EXPECT_EQ(report.overflows[1].counts, (CastCounts{.saturated = 1, .infinite = 5}));
}

TEST(CastSums, ListsTheFirstThousandTensorsAndCountsAll) {
  CastSums sums;
  for (std::uint32_t number = 0; number < 1'001; ++number) sums.add(number, {.nan = 1});
  const CastReport report = sums.report(2'000, numbered);
  EXPECT_EQ(report.overflows.size(), 1'000u);
  EXPECT_EQ(report.overflows.back().name, "999");
  EXPECT_EQ(report.overflowed, 1'001u);
  EXPECT_EQ(report.counts.nan, 1'001u);
}

}  // namespace
}  // namespace flatbed
