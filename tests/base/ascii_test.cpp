// Letters of either case, hex digits, and blanks.
#include "base/ascii.hpp"

#include <gtest/gtest.h>

namespace flatbed {
namespace {

TEST(Ascii, LowersLettersAndNothingElse) {
  EXPECT_EQ(lower_case("@AZ[`az{ 09-.\xC3\x84"), "@az[`az{ 09-.\xC3\x84");
  EXPECT_EQ(lower_case(""), "");
}

TEST(Ascii, HexIsInLowerCase) {
  EXPECT_TRUE(is_hex("0123456789abcdef"));
  EXPECT_TRUE(is_hex(""));
  for (const char* text : {"A", "g", "/", ":", "`", "0 ", "0x1"})
    EXPECT_FALSE(is_hex(text)) << text;
}

TEST(Ascii, FindsAnEndingInEitherCase) {
  EXPECT_TRUE(has_ending("a.BiN", ".bin"));
  EXPECT_TRUE(has_ending(".bin", ".bin"));
  EXPECT_FALSE(has_ending("bin", ".bin"));
  EXPECT_FALSE(has_ending("a.bin.x", ".bin"));
}

TEST(Ascii, TrimsBlanksAtBothEnds) {
  EXPECT_EQ(trim_blanks(" \t\n\v\f\ra b \r\n"), "a b");
  EXPECT_EQ(trim_blanks("\x1C\xA0"), "\x1C\xA0");
  EXPECT_EQ(trim_blanks("   "), "");
  EXPECT_EQ(trim_blanks(""), "");
}

}  // namespace
}  // namespace flatbed
