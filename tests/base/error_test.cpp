// Error codes: their numbers and names are part of the interface.
#include "flatbed/error.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace flatbed {
namespace {

TEST(ErrorCode, HasTheNumberNameAndMeaningOfTheTable) {
  EXPECT_EQ(static_cast<int>(ErrorCode::io_error), 1);
  EXPECT_EQ(static_cast<int>(ErrorCode::header_too_large), 31);
  EXPECT_EQ(static_cast<int>(ErrorCode::internal_error), 199);
  EXPECT_EQ(name(ErrorCode::header_too_large), "header_too_large");
  EXPECT_EQ(meaning(ErrorCode::header_too_large), "the header is longer than 100,000,000 bytes");
}

TEST(ErrorCode, HasANameOfItsOwn) {
  std::set<std::string_view> names;
  int count = 0;
  for (int number = 0; number < 200; ++number) {
    const std::string_view text = name(static_cast<ErrorCode>(number));
    if (text == "unknown") continue;
    ++count;
    names.insert(text);
    EXPECT_FALSE(meaning(static_cast<ErrorCode>(number)).empty());
  }
  EXPECT_EQ(names.size(), static_cast<std::size_t>(count));
  EXPECT_GT(count, 100);
}

TEST(ErrorCode, OfALaterVersionHasAName) {
  EXPECT_EQ(name(static_cast<ErrorCode>(12345)), "unknown");
  EXPECT_EQ(meaning(static_cast<ErrorCode>(12345)), "not an error code of this version of flatbed");
}

TEST(Error, GetsItsPlaceInFront) {
  const Error error = with_context("a.safetensors", {ErrorCode::offsets_gap, "tensor 'w': a gap"});
  EXPECT_EQ(error.code, ErrorCode::offsets_gap);
  EXPECT_EQ(error.message, "a.safetensors: tensor 'w': a gap");
}

}  // namespace
}  // namespace flatbed
