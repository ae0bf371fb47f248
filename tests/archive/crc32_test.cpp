// crc32_of(), crc32_joined(): sums of bytes, and of bytes that were summed in parts.
#include "archive/crc32.hpp"

#include <gtest/gtest.h>

#include "base/bytes.hpp"

namespace flatbed::pth {
namespace {

TEST(Crc32, IsJoinedFromParts) {
  const std::uint32_t whole = crc32_of(as_bytes("hello, world"));
  EXPECT_EQ(crc32_joined(crc32_of(as_bytes("hello,")), crc32_of(as_bytes(" world")), 6), whole);
  EXPECT_EQ(crc32_joined(whole, 0, 0), whole);
  EXPECT_EQ(crc32_of({}), 0u);
}

}  // namespace
}  // namespace flatbed::pth
