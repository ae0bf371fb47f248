// CaptureGlob: what each wildcard matched, the agreement with glob_matches(), and a bound on time.
#include "checkpoint/capture_glob.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "checkpoint/glob.hpp"
#include "support/cpu_time.hpp"

namespace flatbed {
namespace {

using Captures = std::vector<std::string>;

std::optional<Captures> captured(std::string_view pattern, std::string_view text) {
  std::vector<std::string_view> parts;
  if (!CaptureGlob(pattern).match(text, parts)) return std::nullopt;
  return Captures(parts.begin(), parts.end());
}

TEST(CaptureGlob, GivesWhatEachWildcardMatched) {
  EXPECT_EQ(captured("h.*.attn.*", "h.12.attn.c.weight"), (Captures{"12", "c.weight"}));
  EXPECT_EQ(captured("a?c[0-9]", "abc7"), (Captures{"b", "7"}));
  EXPECT_EQ(captured("*", "all"), Captures{"all"});
  EXPECT_EQ(captured("*", ""), Captures{""});
  EXPECT_EQ(captured("a.b", "a.b"), Captures{});
}

TEST(CaptureGlob, StarsBeforeTheLastTakeAsLittleAsPossible) {
  EXPECT_EQ(captured("*.*", "a.b.c"), (Captures{"a", "b.c"}));
  EXPECT_EQ(captured("x*b*", "xabab"), (Captures{"a", "ab"}));
  EXPECT_EQ(captured("**", "ab"), (Captures{"", "ab"}));
  EXPECT_EQ(captured("*a*b", "aab"), (Captures{"", "a"}));
}

TEST(CaptureGlob, RefusesWhatDoesNotMatch) {
  EXPECT_EQ(captured("h.*", "g.1"), std::nullopt);
  EXPECT_EQ(captured("*.w", "a.b"), std::nullopt);
  EXPECT_EQ(captured("a*a", "a"), std::nullopt);
  EXPECT_EQ(captured("?", ""), std::nullopt);
  EXPECT_EQ(captured("", "a"), std::nullopt);
  EXPECT_EQ(captured("[ab]", "c"), std::nullopt);
}

TEST(CaptureGlob, TakesEscapesAndUnclosedBracketsLiterally) {
  EXPECT_EQ(captured("a\\*\\[", "a*["), Captures{});
  EXPECT_EQ(captured("a[b", "a[b"), Captures{});
  EXPECT_EQ(captured("a\\", "a\\"), Captures{});
  EXPECT_EQ(captured("[!a-c]x", "dx"), Captures{"d"});
}

TEST(CaptureGlob, MatchesExactlyWhatGlobsMatch) {
  std::mt19937 random(12);
  const auto text_of = [&](std::string_view alphabet, std::size_t most) {
    std::string text(random() % (most + 1), '\0');
    for (char& c : text) c = alphabet[random() % alphabet.size()];
    return text;
  };
  int matches = 0;
  for (int i = 0; i < 200'000; ++i) {
    const std::string pattern = text_of("ab*?[]!-\\", 7);
    const std::string text = text_of("ab]-\\", 7);
    ASSERT_EQ(captured(pattern, text).has_value(), glob_matches(pattern, text))
        << pattern << " and " << text;
    matches += captured(pattern, text).has_value() ? 1 : 0;
  }
  EXPECT_GT(matches, 1000);
}

TEST(CaptureGlob, TakesTimeInProportionToPatternAndText) {
  std::string pattern;
  for (int i = 0; i < 100; ++i) pattern += "*a";
  const auto start = test::cpu_time();
  EXPECT_EQ(captured(pattern + "b*c", std::string(100'000, 'a') + "c"), std::nullopt);
  EXPECT_LT(test::cpu_time() - start, std::chrono::seconds(2));
}

TEST(CaptureGlob, KnowsTheEndsOfWhatItMatches) {
  const CaptureGlob glob("h.*.attn?.w");
  EXPECT_EQ(glob.prefix(), "h.");
  EXPECT_EQ(glob.suffix(), ".w");
  EXPECT_EQ(glob.min_size(), 10u);
  EXPECT_EQ(CaptureGlob("abc").prefix(), "abc");
  EXPECT_EQ(CaptureGlob("abc").suffix(), "abc");
}

}  // namespace
}  // namespace flatbed
