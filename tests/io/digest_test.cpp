// The digest against known values, and the stream against the one-shot function.
#include "io/digest.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "base/bytes.hpp"
#include "io/past_cache.hpp"

namespace flatbed {
namespace {

TEST(Digest, AgreesWithKnownValues) {
  EXPECT_EQ(xxh3({}), 0x2d06800538d394c2u);
  EXPECT_EQ(xxh3(as_bytes("abc")), 0x78af5f94892f3950u);
  EXPECT_EQ(xxh3(as_bytes(std::string(4096, '\0'))), 0x93d76fe148c689bau);
}

TEST(Digest, OfAStreamDoesNotDependOnItsPieces) {
  std::string text(1'000'003, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * i >> 7);
  for (const std::size_t piece : {1U, 63U, 64U, 65U, 1024U, 65'536U, 2'000'000U}) {
    Xxh3Stream stream;
    for (std::size_t at = 0; at < text.size(); at += piece) {
      stream.update(as_bytes(std::string_view(text).substr(at, piece)));
    }
    EXPECT_EQ(stream.digest(), xxh3(as_bytes(text))) << piece;
  }
}

TEST(Digest, OfACopyIsThatOfItsBytes) {
  std::string text(40'000, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * i >> 7);
  for (const std::size_t nbytes : {0U, 1U, 63U, 4096U, 16'384U, 16'385U, 32'768U, 39'999U}) {
    for (const std::size_t skip : {0U, 1U, 63U}) {
      const std::string_view source = std::string_view(text).substr(1, nbytes);
      std::string copy(nbytes + skip + 1, '!');
      auto* const to = reinterpret_cast<std::byte*>(copy.data()) + skip;
      EXPECT_EQ(copy_and_xxh3(to, as_bytes(source)), xxh3(as_bytes(source))) << nbytes;
      finish_past_cache();
      EXPECT_TRUE(copy == std::string(skip, '!').append(source) + '!') << nbytes << ' ' << skip;
    }
  }
}

TEST(Digest, OfAStreamCanBeAskedForInBetween) {
  Xxh3Stream stream;
  EXPECT_EQ(stream.digest(), xxh3({}));
  stream.update(as_bytes("ab"));
  EXPECT_EQ(stream.digest(), xxh3(as_bytes("ab")));
  Xxh3Stream moved = std::move(stream);
  moved.update(as_bytes("c"));
  EXPECT_EQ(moved.digest(), xxh3(as_bytes("abc")));
}

}  // namespace
}  // namespace flatbed
