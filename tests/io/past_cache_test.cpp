// Copies past the cache: every place in a line, and the sizes around the least.
#include "io/past_cache.hpp"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace flatbed
