// The place of flatbed.series: where writers put it, and what a reader of 4 KiB makes of it.
#include "series/series_head.hpp"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "support/series_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::put;
using test::put_set;
using test::read_file;
using test::small_plan;
using test::statement_of;
using test::TempDir;

TEST(SeriesHead, TheKeyFollowsTheSeal) {
  const TempDir dir;
  SavePlan plan = small_plan();
  plan.metadata = {{"a", "first by name"}, {"flatbee", "also"}};
  put(dir / "a.safetensors", statement_of(1, 7), plan);
  const std::string bytes = read_file(dir / "a.safetensors");
  const std::string text = *encode_statement(statement_of(1, 7));
  const std::string_view after = std::string_view(bytes).substr(71);
  EXPECT_TRUE(after.starts_with("\",\"flatbed.series\":\"1/")) << after.substr(0, 40);
  const std::optional<SeriesHead> head = read_series_head(bytes);
  ASSERT_TRUE(head);
  EXPECT_EQ(head->statement, text);
  EXPECT_EQ(head->seal, bytes.substr(36, 35));
  EXPECT_EQ(head->content, bytes.substr(55, 16));
  EXPECT_LT(bytes.find("\"a\""), bytes.find("\"flatbed.digests\""));
}

TEST(SeriesHead, ASealWithoutHexDigitsIsNone) {
  const TempDir dir;
  put(dir / "a.safetensors", statement_of(1, 7));
  const std::string bytes = read_file(dir / "a.safetensors");
  for (const std::size_t at : {36, 51, 55, 70}) {
    for (const char c : {'g', 'A', '\\', '/'}) {
      std::string damaged = bytes;
      damaged[at] = c;
      EXPECT_FALSE(read_series_head(damaged)) << at << c;
    }
  }
}

TEST(SeriesHead, OnlyTheFirstFileOfASetHasTheKey) {
  const TempDir dir;
  put_set(dir / "set", statement_of(1, 7));
  const std::string first = read_file(dir / "set" / "model-00001-of-00002.safetensors");
  const std::string second = read_file(dir / "set" / "model-00002-of-00002.safetensors");
  EXPECT_TRUE(read_series_head(first));
  EXPECT_EQ(second.find("flatbed.series"), std::string::npos);
}

TEST(SeriesHead, TheLongestStatementFits) {
  const TempDir dir;
  for (const char c : {'\0', '\x1F', '"', '\\', 'm'}) {
    Statement statement = statement_of(kMaxSequence, kMaxSequence, -1.7976931348623157e308);
    statement.metric = std::string(kMaxMetricNbytes, c);
    statement.parent = "0123456789abcdef";
    statement.saved_at = -static_cast<std::int64_t>(kMaxSequence);
    statement.epoch = statement.saved_at;
    put(dir / "a.safetensors", statement);
    const std::string bytes = read_file(dir / "a.safetensors");
    const std::optional<SeriesHead> head = read_series_head(bytes.substr(0, kSeriesHeadNbytes));
    ASSERT_TRUE(head);
    const Result<Statement> read = parse_statement(head->statement);
    ASSERT_OK(read);
    EXPECT_EQ(read->metric, statement.metric);
  }
}

std::string head_of(std::string_view after_length) {
  return std::string(8, '\0') + std::string(after_length);
}

constexpr const char* kSeal = R"({"__metadata__":{"flatbed":"0011223344556677/1/8899aabbccddeeff)";

TEST(SeriesHead, SeesNothingElse) {
  const std::string good = head_of(std::string(kSeal) + R"(","flatbed.series":"x")");
  ASSERT_TRUE(read_series_head(good));
  EXPECT_EQ(read_series_head(good)->statement, "x");
  for (std::size_t nbytes = 0; nbytes < good.size(); ++nbytes)
    EXPECT_FALSE(read_series_head(good.substr(0, nbytes))) << nbytes;
  EXPECT_FALSE(read_series_head(head_of(std::string(kSeal) + R"(","flatbed.series": "x")")));
  EXPECT_FALSE(read_series_head(head_of(std::string(kSeal) + R"(","flatbed.serie":"x")")));
  EXPECT_FALSE(read_series_head(head_of(std::string(kSeal) + R"(","flatbed.series":7)")));
  EXPECT_FALSE(read_series_head(head_of(std::string(kSeal) + R"(","flatbed.series":"\x")")));
  EXPECT_FALSE(read_series_head(head_of(std::string(kSeal) + "\",\"flatbed.series\":\"\x01\"")));
  EXPECT_FALSE(read_series_head(head_of(std::string(kSeal) + R"(","flatbed.series":"x\")")));
}

TEST(SeriesHead, ReadsEscapes) {
  const std::string text =
      head_of(std::string(kSeal) + R"(","flatbed.series":"\"\\\u0041\n","more":"")");
  ASSERT_TRUE(read_series_head(text));
  EXPECT_EQ(read_series_head(text)->statement, "\"\\A\n");
}

TEST(SeriesHead, AStringThatEndsLaterIsNotSeen) {
  const std::string begin = head_of(std::string(kSeal) + R"(","flatbed.series":")");
  const std::string fits = begin + std::string(kSeriesHeadNbytes - begin.size() - 1, 'x') + '"';
  EXPECT_TRUE(read_series_head(fits));
  EXPECT_FALSE(read_series_head(begin + std::string(kSeriesHeadNbytes - begin.size(), 'x') + '"'));
}

}  // namespace
}  // namespace flatbed
