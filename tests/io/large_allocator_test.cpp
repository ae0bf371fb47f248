// LargeAllocator: small and large blocks behave alike, and resize() leaves new bytes unset.
#include "io/large_allocator.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace flatbed {
namespace {

TEST(LargeAllocator, KeepsContentsAcrossTheSizeWhereBlocksChange) {
  LargeVector<std::uint64_t> numbers;
  for (std::uint64_t i = 0; i < 400'000; ++i) numbers.push_back(i);
  for (std::uint64_t i = 0; i < 400'000; ++i) ASSERT_EQ(numbers[i], i);
  numbers.resize(10);
  numbers.shrink_to_fit();
  EXPECT_EQ(numbers.back(), 9u);
}

TEST(LargeAllocator, AlignsLargeBlocksToHugePages) {
  const ByteBuffer large(3 << 20);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(large.data()) % (2 << 20), 0u);
}

TEST(LargeAllocator, RunsConstructorsAndDestructors) {
  LargeVector<std::string> texts(3);
  EXPECT_EQ(texts[2], "");
  texts.assign(100, std::string(100, 'x'));
  EXPECT_EQ(texts.back(), std::string(100, 'x'));
}

TEST(ByteBuffer, TakesAValueToFillWith) {
  const ByteBuffer bytes(2 << 20, std::byte{7});
  EXPECT_EQ(bytes.front(), std::byte{7});
  EXPECT_EQ(bytes.back(), std::byte{7});
}

TEST(ByteBuffer, MovesWithoutCopying) {
  ByteBuffer bytes(2 << 20);
  const std::byte* const at = bytes.data();
  const ByteBuffer moved = std::move(bytes);
  EXPECT_EQ(moved.data(), at);
}

}  // namespace
}  // namespace flatbed
