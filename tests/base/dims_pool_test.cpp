// DimsPool: shapes stay where they are while the pool grows and moves.
#include "base/dims_pool.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace flatbed {
namespace {

TEST(DimsPool, KeepsEveryShapeWhereItIs) {
  DimsPool pool;
  std::vector<std::span<const std::uint64_t>> shapes;
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    const std::span<std::uint64_t> dims = pool.add(i % 5);
    std::ranges::fill(dims, i);
    shapes.push_back(dims);
  }
  const DimsPool moved = std::move(pool);
  for (std::uint64_t i = 0; i < shapes.size(); ++i) {
    ASSERT_EQ(std::vector<std::uint64_t>(shapes[i].begin(), shapes[i].end()),
              std::vector<std::uint64_t>(i % 5, i));
  }
}

TEST(DimsPool, HoldsAShapeLargerThanItsBlocks) {
  DimsPool pool;
  const std::span<std::uint64_t> small = pool.add(3);
  small[2] = 7;
  const std::span<std::uint64_t> large = pool.add(1'000'000);
  large.back() = 9;
  const std::span<std::uint64_t> next = pool.add(2);
  next[0] = 1;
  EXPECT_EQ(small[2], 7u);
  EXPECT_EQ(large.size(), 1'000'000u);
  EXPECT_EQ(large.back(), 9u);
}

TEST(DimsPool, GivesScalarsNoDimensions) {
  DimsPool pool;
  EXPECT_TRUE(pool.add(0).empty());
}

}  // namespace
}  // namespace flatbed
