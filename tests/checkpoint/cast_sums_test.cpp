// CastSums: what a report says of many tensors, and from several threads.
#include "checkpoint/cast_sums.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <thread>

namespace flatbed {
namespace {

CastOverflow describe(std::uint32_t number) { return {std::to_string(number), Dtype::f16, {}}; }

TEST(CastSums, ListsTensorsInAscendingOrderWithTheirSums) {
  CastSums sums;
  sums.add(7, {.saturated = 1});
  sums.add(2, {.infinite = 2});
  sums.add(7, {.saturated = 3, .nan = 4});
  sums.add(5, {});
  const CastReport report = sums.report(9, describe);
  EXPECT_EQ(report.tensors, 9u);
  EXPECT_EQ(report.overflowed, 2u);
  EXPECT_EQ(report.counts, (CastCounts{.saturated = 4, .infinite = 2, .nan = 4}));
  ASSERT_EQ(report.overflows.size(), 2u);
  EXPECT_EQ(report.overflows[0].name, "2");
  EXPECT_EQ(report.overflows[1].name, "7");
  EXPECT_EQ(report.overflows[1].to, Dtype::f16);
  EXPECT_EQ(report.overflows[1].counts, (CastCounts{.saturated = 4, .nan = 4}));
}

TEST(CastSums, NamesAtMost1000TensorsAndCountsAll) {
  CastSums sums;
  for (std::uint32_t i = 0; i <= 1'000; ++i) sums.add(i, {.nan = 1});
  const CastReport report = sums.report(1'001, describe);
  ASSERT_EQ(report.overflows.size(), 1'000u);
  EXPECT_EQ(report.overflows.back().name, "999");
  EXPECT_EQ(report.overflowed, 1'001u);
  EXPECT_EQ(report.counts.nan, 1'001u);
}

TEST(CastSums, AddsFromSeveralThreads) {
  CastSums sums;
  const auto add = [&sums] {
    for (std::uint32_t i = 0; i < 1'000; ++i) sums.add(i % 3, {.infinite = 1});
  };
  std::thread other(add);
  add();
  other.join();
  EXPECT_EQ(sums.report(3, describe).counts.infinite, 2'000u);
}

}  // namespace
}  // namespace flatbed
