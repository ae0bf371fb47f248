// append_json_string(): spec L6, and that the parser reads the same text back.
#include "base/json_write.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
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

// Pairs of a float and what Python 3's repr() prints.
TEST(JsonWrite, WritesFloatsAsPythonDoes) {
  const std::pair<double, std::string_view> cases[] = {
      {0.0, "0.0"},
      {-0.0, "-0.0"},
      {1.0, "1.0"},
      {-12.5, "-12.5"},
      {0.1, "0.1"},
      {0.001, "0.001"},
      {1e-4, "0.0001"},
      {0.00012345, "0.00012345"},
      {9.999e-5, "9.999e-05"},
      {1e-5, "1e-05"},
      {1.5e-7, "1.5e-07"},
      {100000.0, "100000.0"},
      {123456789012345.6, "123456789012345.6"},
      {1e15, "1000000000000000.0"},
      {9999999999999998.0, "9999999999999998.0"},
      {1e16, "1e+16"},
      {12345678901234567890.0, "1.2345678901234567e+19"},
      {1e22, "1e+22"},
      {1e100, "1e+100"},
      {5e-324, "5e-324"},
      {2.2250738585072014e-308, "2.2250738585072014e-308"},
      {1.7976931348623157e308, "1.7976931348623157e+308"},
      {9007199254740993.0, "9007199254740992.0"},
      {2e-44, "2e-44"},
  };
  for (const auto& [number, text] : cases) {
    std::string out;
    append_json_real(out, number);
    EXPECT_EQ(out, text);
  }
}

// The digits from the first to the last that is not 0.
std::string digits_of(std::string_view text) {
  std::string digits(text.substr(0, text.find('e')));
  std::erase_if(digits, [](char c) { return c == '.' || c == '-'; });
  digits.erase(0, digits.find_first_not_of('0'));
  digits.erase(digits.find_last_not_of('0') + 1);
  return digits;
}

// The digits of the shortest of printf's forms that reads back the same.
std::string shortest_digits(double number) {
  char buffer[32];
  for (int digits = 0; digits < 17; ++digits) {
    std::snprintf(buffer, sizeof buffer, "%.*e", digits, number);
    if (std::strtod(buffer, nullptr) == number) break;
  }
  return digits_of(buffer);
}

TEST(JsonWrite, WritesRandomFloatsShortly) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 10'000; ++i) {
    const auto any = std::bit_cast<double>(random());
    const double usual = std::ldexp(static_cast<double>(random() >> 11), -40 - i % 20);
    for (const double number : {any, usual, std::trunc(usual)}) {
      if (!std::isfinite(number) || number == 0) continue;
      std::string out;
      append_json_real(out, number);
      ASSERT_EQ(std::strtod(out.c_str(), nullptr), number) << out;
      ASSERT_EQ(digits_of(out), shortest_digits(number)) << out;
      const double size = std::fabs(number);
      ASSERT_EQ(out.find('e') == std::string::npos, size >= 1e-4 && size < 1e16) << out;
      ASSERT_NE(out.find_first_of(".e"), std::string::npos) << out;
    }
  }
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
