// The literals of pickles: their values, and texts that only look like literals.
#include "pickle/pickle_literal.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "support/expect_error.hpp"

namespace flatbed::pth {
namespace {

// The value if it fits in 64 bits, otherwise its hex digits.
std::string shown(const PickleInteger& integer) {
  return integer.big.empty() ? std::to_string(integer.value) : integer.big;
}

TEST(PickleLiteral, ReadsDecimalIntegersOfAnySize) {
  EXPECT_EQ(shown(*parse_decimal("0")), "0");
  EXPECT_EQ(shown(*parse_decimal("-17")), "-17");
  EXPECT_EQ(shown(*parse_decimal("007")), "7");
  EXPECT_EQ(shown(*parse_decimal("9223372036854775807")), "9223372036854775807");
  EXPECT_EQ(shown(*parse_decimal("9223372036854775808")), "8000000000000000");
  EXPECT_EQ(shown(*parse_decimal("-9223372036854775808")), "-9223372036854775808");
  EXPECT_EQ(shown(*parse_decimal("-9223372036854775809")), "-8000000000000001");
  EXPECT_EQ(shown(*parse_decimal("18446744073709551616")), "10000000000000000");
}

TEST(PickleLiteral, RefusesWhatOnlyPythonTakesForAnInteger) {
  for (const char* text : {"", "-", "+1", " 1", "1 ", "1_000", "0x10", "1.0", "one", "--1", "1\r"})
    EXPECT_ERROR(parse_decimal(text), pickle_literal) << text;
}

TEST(PickleLiteral, RefusesDecimalsThatTakeQuadraticTime) {
  EXPECT_OK(parse_decimal(std::string(kMaxDecimalDigits, '9')));
  EXPECT_ERROR(parse_decimal(std::string(kMaxDecimalDigits + 1, '9')), pickle_limit);
}

TEST(PickleLiteral, ReadsTwosComplement) {
  using std::string;
  EXPECT_EQ(shown(*parse_long("")), "0");
  EXPECT_EQ(shown(*parse_long(string("\0", 1))), "0");
  EXPECT_EQ(shown(*parse_long("\xff")), "-1");
  EXPECT_EQ(shown(*parse_long(string("\xff\0", 2))), "255");
  EXPECT_EQ(shown(*parse_long(string("\0\0\0\x80", 4))), "-2147483648");
  EXPECT_EQ(shown(*parse_long(string("\0\0\0\0\0\0\0\x80", 8))), "-9223372036854775808");
  EXPECT_EQ(shown(*parse_long(string("\0\0\0\0\0\0\0\x80\0", 9))), "8000000000000000");
  EXPECT_EQ(shown(*parse_long(string("\xff\xff\xff\xff\xff\xff\xff\x7f\xff", 9))),
            "-8000000000000001");
  EXPECT_EQ(shown(*parse_long(string(8, '\0') + "\1")), "10000000000000000");
  EXPECT_EQ(shown(*parse_long(string(20, '\0') + "\x0f")), "f" + string(40, '0'));
  EXPECT_EQ(shown(*parse_long(string(1000, '\xff'))), "-1") << "sign bytes are no magnitude";
  EXPECT_OK(parse_long(string(kMaxLongBytes, '\1')));
  EXPECT_ERROR(parse_long(string(kMaxLongBytes + 1, '\1')), pickle_limit);
}

TEST(PickleLiteral, ReadsFloats) {
  EXPECT_EQ(*parse_float("1.5"), 1.5);
  EXPECT_EQ(*parse_float("-1e-320"), -1e-320);
  EXPECT_EQ(*parse_float("inf"), INFINITY);
  EXPECT_EQ(*parse_float("-inf"), -INFINITY);
  EXPECT_TRUE(std::isnan(*parse_float("nan")));
  EXPECT_TRUE(std::signbit(*parse_float("-0.0")));
  for (const char* text :
       {"", "1,5", "1e400", "infinity", "0x1p3", " 1.0", "1.0 ", "1_0.0", "nan(1)", "+1.0"})
    EXPECT_ERROR(parse_float(text), pickle_literal) << text;
}

TEST(PickleLiteral, ReadsQuotedStrings) {
  EXPECT_EQ(*parse_quoted("''"), "");
  EXPECT_EQ(*parse_quoted("'a\"b'"), "a\"b");
  EXPECT_EQ(*parse_quoted("\"it's\""), "it's");
  EXPECT_EQ(*parse_quoted(R"('\\\'\n\t\x00\xff\101\7')"), std::string("\\'\n\t\0\xff\x41\7", 8));
  for (const char* text :
       {"", "'", "a", "'a", "a'", "'a\"", "'a'b'", R"('\q')", R"('\x1')", R"('\xzz')", R"('\')"})
    EXPECT_ERROR(parse_quoted(text), pickle_literal) << text;
}

TEST(PickleLiteral, ReadsRawUnicodeEscapes) {
  EXPECT_EQ(*parse_raw_unicode("abc"), "abc");
  EXPECT_EQ(*parse_raw_unicode("\xe9"), "\u00e9");
  EXPECT_EQ(*parse_raw_unicode(R"(\u2603\U0001f600\u005c)"), "\u2603\U0001f600\\");
  EXPECT_EQ(*parse_raw_unicode(R"(\ud800)"), "\xed\xa0\x80");
  EXPECT_EQ(*parse_raw_unicode(R"(a\nb\)"), R"(a\nb\)") << "only \\u and \\U are escapes";
  EXPECT_EQ(*parse_raw_unicode(R"(\\u0041)"), R"(\\u0041)") << "an escaped backslash begins none";
  for (const char* text : {R"(\u12)", R"(\u12g4)", R"(\U00110000)", R"(\U1234567)"})
    EXPECT_ERROR(parse_raw_unicode(text), pickle_literal) << text;
}

TEST(PickleLiteral, EncodesLatin1) {
  std::string out;
  EXPECT_TRUE(to_latin1("a\u00ff\u0080", out));
  EXPECT_EQ(out, "a\xff\x80");
  EXPECT_FALSE(to_latin1("\u0100", out));
  EXPECT_FALSE(to_latin1("\u2603", out));
  for (const char* text : {"a\xc2", "\xc3 b", "\xc3\xc3", "\x80"})
    EXPECT_FALSE(to_latin1(text, out)) << "is no UTF-8";
}

}  // namespace
}  // namespace flatbed::pth
