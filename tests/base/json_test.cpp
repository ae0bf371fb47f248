// JsonDocument and JsonValue: the cursor over every kind of value, and which failure gets which
// code. The codes of kRules only tell the four kinds apart.
#include "base/json.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "support/expect_error.hpp"

namespace flatbed {
namespace {

constexpr std::size_t kDepth = 4;
constexpr JsonRules kRules{ErrorCode::header_not_utf8, ErrorCode::tree_not_json,
                           ErrorCode::tree_malformed_number, ErrorCode::tree_too_deep, kDepth};

Result<JsonDocument> parse(std::string_view text) { return JsonDocument::parse_copy(text, kRules); }

TEST(JsonValue, TellsTheKindsApart) {
  const auto json = parse(R"([{}, [], "s", null, true, false, 1, -1, 1.0])");
  ASSERT_OK(json);
  std::vector<std::string> kinds;
  for (JsonValue v = json->root().first(); !v.at_end(); v = v.next()) {
    kinds.push_back(std::string(v.is_object() ? "o" : "") + (v.is_array() ? "a" : "") +
                    (v.is_string() ? "s" : "") + (v.is_null() ? "n" : "") +
                    (v.as_bool() ? "b" : "") + (v.as_unsigned() ? "u" : "") +
                    (v.as_signed() ? "i" : "") + (v.as_real() ? "r" : ""));
  }
  EXPECT_EQ(kinds, (std::vector<std::string>{"o", "a", "s", "n", "b", "b", "ui", "i", "r"}));
}

TEST(JsonValue, ReadsIntegersOfSixtyFourBits) {
  const auto json = parse(
      "[0, 9223372036854775807, 9223372036854775808, 18446744073709551615, "
      "-9223372036854775808]");
  ASSERT_OK(json);
  JsonValue v = json->root().first();
  EXPECT_EQ(v.as_unsigned(), 0u);
  EXPECT_EQ(v.as_signed(), 0);
  v = v.next();
  EXPECT_EQ(v.as_signed(), INT64_MAX);
  v = v.next();
  EXPECT_EQ(v.as_unsigned(), std::uint64_t{1} << 63);
  EXPECT_EQ(v.as_signed(), std::nullopt);
  v = v.next();
  EXPECT_EQ(v.as_unsigned(), UINT64_MAX);
  v = v.next();
  EXPECT_EQ(v.as_signed(), INT64_MIN);
  EXPECT_EQ(v.as_unsigned(), std::nullopt);
  EXPECT_TRUE(v.next().at_end());
}

TEST(JsonValue, TakesOnlyIntegerLiteralsAsIntegers) {
  const auto json = parse("[1.0, 1e0, 16E1, 0.5, -0.0]");
  ASSERT_OK(json);
  std::vector<double> reals;
  for (JsonValue v = json->root().first(); !v.at_end(); v = v.next()) {
    EXPECT_FALSE(v.as_unsigned());
    EXPECT_FALSE(v.as_signed());
    reals.push_back(*v.as_real());
  }
  EXPECT_EQ(reals, (std::vector<double>{1.0, 1.0, 160.0, 0.5, -0.0}));
}

TEST(JsonValue, DecodesStrings) {
  const auto json = parse(R"(["\u0061\n\/\ud83d\ude9b\u0000", "é", ""])");
  ASSERT_OK(json);
  JsonValue v = json->root().first();
  EXPECT_EQ(v.text(), std::string_view("a\n/\xF0\x9F\x9A\x9B\0", 8));
  v = v.next();
  EXPECT_EQ(v.text(), "é");
  v = v.next();
  EXPECT_TRUE(v.is_string());
  EXPECT_EQ(v.text(), "");
}

TEST(JsonValue, WalksMembersAndStepsOverNestedOnes) {
  const auto json = parse(R"({"a": {"x": [1, 2]}, "b": 3.5, "a": 4})");
  ASSERT_OK(json);
  std::string keys;
  JsonValue last = json->root();
  for (JsonValue key = json->root().first(); !key.at_end(); key = last.next()) {
    keys += key.text();
    last = key.member();
  }
  EXPECT_EQ(keys, "aba");  // duplicates are the caller's business
  EXPECT_EQ(last.as_unsigned(), 4u);
  EXPECT_EQ(json->root().size_hint(), 3u);
}

TEST(JsonValue, CountsItems) {
  EXPECT_EQ(parse("[]")->root().size(), 0u);
  EXPECT_EQ(parse("[1,[2,3],4]")->root().size(), 3u);
}

TEST(JsonValue, MeasuresItsDepth) {
  EXPECT_EQ(parse("1")->root().depth(), 0u);
  EXPECT_EQ(parse(R"("[[")")->root().depth(), 0u);
  EXPECT_EQ(parse("[]")->root().depth(), 1u);
  EXPECT_EQ(parse("[1.5,[],{\"a\":[1]},2]")->root().depth(), 3u);
  const auto json = parse("[[[1]],2]");
  EXPECT_EQ(json->root().first().depth(), 2u);  // of this value, not of what follows it
  EXPECT_EQ(json->root().first().next().depth(), 0u);
}

// Under the address sanitizer also that they are not read from what was freed.
TEST(JsonDocument, TextsOutliveTheStructure) {
  auto json = parse(R"(["a\u0062", "c"])");
  const std::string_view first = json->root().first().text();
  const std::string_view second = json->root().first().next().text();
  json->keep_texts_only();
  const JsonDocument moved = *std::move(json);
  EXPECT_EQ(first, "ab");
  EXPECT_EQ(second, "c");
}

// Texts that grow and shrink, some of them smaller than any memory that the parser keeps.
TEST(JsonDocument, ParsesInTheMemoryOfTheLastOne) {
  JsonScratch scratch;
  for (const std::size_t count : {1U, 1'000U, 2U, 50U, 20'000U, 0U, 300U}) {
    std::string text = "[";
    for (std::size_t i = 0; i < count; ++i)
      text += (i == 0 ? "" : ",") + std::string(R"("a\u0062")");
    text += "]" + std::string(JsonDocument::kPadding, '\0');
    auto json = JsonDocument::parse(as_bytes(text), kRules, {.scratch = &scratch});
    ASSERT_OK(json);
    ASSERT_EQ(json->root().size(), count);
    for (JsonValue item = json->root().first(); !item.at_end(); item = item.next())
      ASSERT_EQ(item.text(), "ab");
    json->recycle(scratch);
  }
}

TEST(JsonDocument, ParsesAfterAFaultInTheSameMemory) {
  JsonScratch scratch;
  const JsonMemory memory{.scratch = &scratch};
  const std::string padding(JsonDocument::kPadding, '\0');
  const std::string good = "[[1]]" + padding;
  JsonDocument::parse(as_bytes(good), kRules, memory)->recycle(scratch);
  const std::string wrong = "[[1]" + padding;
  EXPECT_ERROR(JsonDocument::parse(as_bytes(wrong), kRules, memory), tree_not_json);
  const std::string deep = "[[[[[1]]]]]" + padding;
  EXPECT_ERROR(JsonDocument::parse_exactly(as_bytes(deep), kRules, memory), tree_too_deep);
  EXPECT_OK(JsonDocument::parse_exactly(as_bytes(good), kRules, memory));
}

TEST(JsonDocument, CountsEmptyArraysAndObjectsAsLevels) {
  for (const std::string_view text : {"[[[[]]]]", "[[[{}]]]"}) EXPECT_OK(parse(text));
  for (const std::string_view text : {"[[[[[]]]]]", "[[[[{}]]]]", "{\"a\":[[[{}]]]}"})
    EXPECT_ERROR(parse(text), tree_too_deep);
}

TEST(JsonDocument, OutlivesItsTextAndMoves) {
  std::string text = R"(["kept"])";
  Result<JsonDocument> parsed = parse(text);
  ASSERT_OK(parsed);
  const std::string_view kept = parsed->root().first().text();
  text.assign(text.size(), ' ');
  const JsonDocument moved = *std::move(parsed);
  EXPECT_EQ(moved.root().first().text(), "kept");
  EXPECT_EQ(kept, "kept");
}

TEST(JsonDocument, DoesNotCareWhatFollowsItsText) {
  for (const char after : {'\0', ' ', ']', '"', '1', '\xFF'}) {
    const std::string padded = "[12]" + std::string(JsonDocument::kPadding, after);
    const auto json = JsonDocument::parse(as_bytes(padded), kRules);
    ASSERT_OK(json);
    EXPECT_EQ(json->root().first().as_unsigned(), 12u);
    const std::string cut = "[12" + std::string(JsonDocument::kPadding, after);
    EXPECT_ERROR(JsonDocument::parse(as_bytes(cut), kRules), tree_not_json);
  }
}

TEST(JsonDocument, AcceptsWhiteSpaceAroundTheValue) { EXPECT_OK(parse(" \t\r\n[1]\n ")); }

TEST(JsonDocument, RefusesWhatIsNotOneValue) {
  for (const std::string_view text : {"",
                                      " ",
                                      "[",
                                      "]",
                                      "[1",
                                      "[1]]",
                                      "[1] 2",
                                      "[1,]",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "{a:1}",
                                      "{1:2}",
                                      "[1 2]",
                                      "'a'",
                                      "[nan]",
                                      "[NaN]",
                                      "[Infinity]",
                                      "[tru]",
                                      "[True]",
                                      "\"a",
                                      "\"\x01\"",
                                      "\"\\x41\"",
                                      "\"\\u12\"",
                                      "\"\\ud800\"",
                                      "\"\\udc00\"",
                                      "\"\\ud800x\"",
                                      "//\n1",
                                      "\xEF\xBB\xBF[1]"}) {
    EXPECT_ERROR(parse(text), tree_not_json) << text;
  }
}

TEST(JsonDocument, RefusesMalformedNumbers) {
  for (const std::string_view text :
       {"[01]", "[-]", "[+1]", "[1.]", "[.5]", "[1.e5]", "[1e]", "[1e+]", "[0x10]", "[1_000]",
        "[--1]", "[1.2.3]", "[-01]", "[12abc]", "[1-1]", "[1e5e5]", "[00]"}) {
    EXPECT_ERROR(parse(text), tree_not_json) << text;
  }
}

TEST(JsonDocument, TellsNumbersOutOfRangeFromMalformedOnes) {
  for (const std::string_view text :
       {"[18446744073709551616]", "[-9223372036854775809]", "[123456789012345678901234567890]",
        "[-99999999999999999999]", "[1e400]", "[-1e400]", "[1.7976931348623159e308]",
        "[\"01\", 99999999999999999999]", "[\"\\\"01\", 99999999999999999999]"}) {
    EXPECT_ERROR(parse(text), tree_malformed_number) << text;
  }
  EXPECT_OK(parse("[1.7976931348623158e308, 1e-400, -9223372036854775808, 18446744073709551615]"));
}

TEST(JsonDocument, RefusesWhatIsNotUtf8) {
  EXPECT_ERROR(parse("[\"\xFF\"]"), header_not_utf8);
  EXPECT_ERROR(parse("[\"\xED\xA0\x80\"]"), header_not_utf8);
  EXPECT_OK(parse("[\"\xED\x9F\xBF\"]"));
}

TEST(JsonDocument, RefusesDeepNesting) {
  EXPECT_OK(parse("[[[[1]]]]"));
  EXPECT_ERROR(parse("[[[[[1]]]]]"), tree_too_deep);
  const std::string deep = std::string(1'000'000, '[') + std::string(1'000'000, ']');
  EXPECT_ERROR(parse(deep), tree_too_deep);
}

TEST(FindNegativeZeros, FindsLiteralsOutsideOfStrings) {
  using Places = std::vector<std::size_t>;
  EXPECT_EQ(find_negative_zeros("[-0]"), Places{1});
  EXPECT_EQ(find_negative_zeros("-0"), Places{0});
  EXPECT_EQ(find_negative_zeros("{\"a\":-0,\"b\": -0 }"), (Places{5, 13}));
  EXPECT_EQ(find_negative_zeros("[\"-0\",\" -0 \",\"\\\",-0,\"]"), Places{});
  EXPECT_EQ(find_negative_zeros("[\" -0 \",-0]"), Places{8});
  EXPECT_EQ(find_negative_zeros("[\"\\\\\",-0]"), Places{6});
  EXPECT_EQ(find_negative_zeros("[-0.0,-0e1,-01,-1,-10,0]"), Places{});
  EXPECT_EQ(find_negative_zeros(""), Places{});
}

}  // namespace
}  // namespace flatbed
