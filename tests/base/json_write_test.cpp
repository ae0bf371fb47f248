// append_json_string(): spec L6, and that the parser reads the same text back.
#include "base/json_write.hpp"

#include <gtest/gtest.h>

#include <string>

#include "base/json.hpp"

namespace flatbed {
namespace {

std::string json_string(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST(JsonWrite, EscapesQuotesBackslashesAndControlCharacters) {
  EXPECT_EQ(json_string("a\"b\\c"), R"("a\"b\\c")");
  EXPECT_EQ(json_string("\b\t\n\f\r"), R"("\b\t\n\f\r")");
  EXPECT_EQ(json_string(std::string_view("\0\x01\x0b\x1f", 4)), R"("\u0000\u0001\u000b\u001f")");
}

TEST(JsonWrite, EscapesNothingElse) {
  EXPECT_EQ(json_string("/\x7f'<\xC3\xA9\xF0\x9F\x9A\x9B"), "\"/\x7f'<\xC3\xA9\xF0\x9F\x9A\x9B\"");
  EXPECT_EQ(json_string(""), "\"\"");
}

TEST(JsonWrite, AppendsToWhatIsThere) {
  std::string out = "[";
  append_json_string(out, "a");
  EXPECT_EQ(out, "[\"a\"");
}

TEST(JsonWrite, WritesWhatTheParserReadsBack) {
  constexpr JsonRules kRules{ErrorCode::header_not_utf8, ErrorCode::header_not_json,
                             ErrorCode::header_not_json, ErrorCode::header_too_deep, 8};
  for (int byte = 0; byte < 128; ++byte) {
    const std::string text = {'x', static_cast<char>(byte), 'y'};
    const auto parsed = JsonDocument::parse_copy(json_string(text), kRules);
    ASSERT_TRUE(parsed) << byte;
    EXPECT_EQ(parsed->root().text(), text) << byte;
  }
}

}  // namespace
}  // namespace flatbed
