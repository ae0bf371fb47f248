// glob_matches(): every element of a pattern, and a bound on its time.
#include "checkpoint/glob.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "support/cpu_time.hpp"

namespace flatbed {
namespace {

TEST(Glob, WithoutElementsIsTheNameItself) {
  EXPECT_TRUE(glob_matches("a.b", "a.b"));
  EXPECT_FALSE(glob_matches("a.b", "a.bc"));
  EXPECT_FALSE(glob_matches("a.b", "xa.b"));
  EXPECT_FALSE(glob_matches("a.b", "aXb"));
  EXPECT_TRUE(glob_matches("", ""));
  EXPECT_FALSE(glob_matches("", "a"));
}

TEST(Glob, StarMatchesAnyRunAcrossDots) {
  EXPECT_TRUE(glob_matches("*", ""));
  EXPECT_TRUE(glob_matches("*", "a.b.c"));
  EXPECT_TRUE(glob_matches("layers.*.weight", "layers.0.attn.weight"));
  EXPECT_TRUE(glob_matches("a*", "a"));
  EXPECT_FALSE(glob_matches("layers.*.weight", "layers.0.bias"));
  EXPECT_FALSE(glob_matches("*a", "ab"));
}

TEST(Glob, SeveralStarsShareTheText) {
  EXPECT_TRUE(glob_matches("*a*b*", "xxaxxbxx"));
  EXPECT_TRUE(glob_matches("a*b*c", "abbbcbc"));
  EXPECT_TRUE(glob_matches("**", "x"));
  EXPECT_FALSE(glob_matches("*a*b*", "xxbxxaxx"));
}

TEST(Glob, QuestionMarkMatchesOneByte) {
  EXPECT_TRUE(glob_matches("h.?.w", "h.7.w"));
  EXPECT_FALSE(glob_matches("h.?.w", "h.12.w"));
  EXPECT_FALSE(glob_matches("?", ""));
}

TEST(Glob, SetsMatchTheirBytesAndRanges) {
  EXPECT_TRUE(glob_matches("h.[0-4].w", "h.3.w"));
  EXPECT_FALSE(glob_matches("h.[0-4].w", "h.5.w"));
  EXPECT_TRUE(glob_matches("[abx-z]", "y"));
  EXPECT_FALSE(glob_matches("[abx-z]", "c"));
  EXPECT_TRUE(glob_matches("[a-]", "-"));
  EXPECT_TRUE(glob_matches("[]a]", "]"));
}

TEST(Glob, NegatedSetsMatchTheRest) {
  EXPECT_TRUE(glob_matches("[!0-9]", "a"));
  EXPECT_TRUE(glob_matches("[^0-9]", "a"));
  EXPECT_FALSE(glob_matches("[!0-9]", "5"));
  EXPECT_FALSE(glob_matches("[!0-9]", ""));
}

TEST(Glob, ASetWithoutItsEndIsABracket) {
  EXPECT_TRUE(glob_matches("a[", "a["));
  EXPECT_TRUE(glob_matches("a[bc", "a[bc"));
  EXPECT_FALSE(glob_matches("a[bc", "ab"));
}

TEST(Glob, BackslashTakesTheNextCharacterLiterally) {
  EXPECT_TRUE(glob_matches("a\\*", "a*"));
  EXPECT_FALSE(glob_matches("a\\*", "ab"));
  EXPECT_TRUE(glob_matches("\\?\\[\\\\", "?[\\"));
  EXPECT_TRUE(glob_matches("a\\", "a\\"));
}

TEST(Glob, TakesBytesOutsideOfAscii) {
  EXPECT_TRUE(glob_matches("\xC3\xA9*", "\xC3\xA9tude"));
  EXPECT_TRUE(glob_matches("[\x80-\xFF]", "\xC3"));
}

TEST(Glob, ManyStarsStayFast) {
  std::string pattern;
  for (int i = 0; i < 100; ++i) pattern += "*a";
  pattern += "*b";
  const std::string text(20'000, 'a');
  const auto start = test::cpu_time();
  EXPECT_FALSE(glob_matches(pattern, text));
  EXPECT_LT(test::cpu_time() - start, std::chrono::seconds(2));
}

}  // namespace
}  // namespace flatbed
