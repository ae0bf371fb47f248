// Copies past the cache: every place in a line, and the sizes around the least.
#include "io/past_cache.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace flatbed {
namespace {

std::string as_text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// With the first byte at each place in a line, and each number of bytes in the last one.
TEST(PastCache, CopiesEveryByteAndNoOther) {
  constexpr std::uint64_t kBorder = 128;
  std::vector<std::byte> source(kPastCacheNbytes + 2 * kBorder);
  for (std::size_t i = 0; i < source.size(); ++i)
    source[i] = static_cast<std::byte>(i * 7 + i / 64);
  for (std::uint64_t skip = 0; skip < 65; ++skip) {
    for (const std::uint64_t nbytes :
         {std::uint64_t{0}, std::uint64_t{1}, kPastCacheNbytes - 1, kPastCacheNbytes,
          kPastCacheNbytes + 1, kPastCacheNbytes + 63, kPastCacheNbytes + 64 - skip % 64}) {
      std::vector<std::byte> expected(kPastCacheNbytes + 3 * kBorder, std::byte{0x5c});
      std::vector<std::byte> copy = expected;
      const std::uint64_t from = 64 - skip % 64 + skip % 3;
      for (std::uint64_t i = 0; i < nbytes; ++i) expected[skip + i] = source[from + i];
      copy_past_cache(copy.data() + skip, source.data() + from, nbytes);
      finish_past_cache();
      ASSERT_TRUE(as_text(copy) == as_text(expected)) << skip << ' ' << nbytes;
    }
  }
}

// As hashing and copying by turns does it.
TEST(PastCache, PartsOfEverySizeAreOneCopy) {
  std::vector<std::byte> source(3000);
  for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 5 + 1);
  for (std::uint64_t part = 1; part < 200; ++part) {
    std::vector<std::byte> copy(source.size() + 130, std::byte{0x5c});
    std::vector<std::byte> expected = copy;
    std::copy(source.begin(), source.end(), expected.begin() + 65);
    for (std::uint64_t at = 0; at < source.size(); at += part)
      copy_part_past_cache(copy.data() + 65 + at, source.data() + at,
                           std::min<std::uint64_t>(part, source.size() - at));
    finish_past_cache();
    ASSERT_TRUE(as_text(copy) == as_text(expected)) << part;
  }
}

// Then every turn but the first begins and ends with a line.
TEST(PastCache, TurnsAreWholeLines) {
  EXPECT_EQ(turn_nbytes() % kLineNbytes, 0u);
  EXPECT_GE(turn_nbytes(), kLineNbytes);
}

}  // namespace
}  // namespace flatbed
