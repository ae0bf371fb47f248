// How much memory the kernel says is available.
#include "io/available_memory.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>

namespace flatbed {
namespace {

TEST(AvailableMemory, IsKnownAndNoNonsense) {
  const std::optional<std::uint64_t> nbytes = available_memory();
  ASSERT_TRUE(nbytes);
  EXPECT_GT(*nbytes, std::uint64_t{1} << 20);
  EXPECT_LT(*nbytes, std::uint64_t{1} << 50);
}

}  // namespace
}  // namespace flatbed
