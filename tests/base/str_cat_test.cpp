// str_cat(), and the names of files in messages: no part of a name may act as a terminal command.
#include "base/str_cat.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace flatbed {
namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;

TEST(StrCat, JoinsTextsCharactersAndNumbers) {
  EXPECT_EQ(str_cat("a", 'b', std::string("c"), std::string_view("d"), 1, -2, 3u), "abcd1-23");
  EXPECT_EQ(str_cat(), "");
}

TEST(StrCat, WritesTheLargestNumbers) {
  EXPECT_EQ(str_cat(std::numeric_limits<std::uint64_t>::max()), "18446744073709551615");
  EXPECT_EQ(str_cat(std::numeric_limits<std::int64_t>::min()), "-9223372036854775808");
}

TEST(MakeError, HasTheCodeAndTheJoinedMessage) {
  const Error error = make_error(ErrorCode::size_mismatch, "needs ", 16, " bytes");
  EXPECT_EQ(error.code, ErrorCode::size_mismatch);
  EXPECT_EQ(error.message, "needs 16 bytes");
}

TEST(Quoted, KeepsOrdinaryNames) {
  EXPECT_EQ(quoted("layers.0.weight"sv), "'layers.0.weight'");
  EXPECT_EQ(quoted("gew\xC3\xB6hnlich \xE2\x82\xAC \xF0\x9F\x9A\x9B"sv),
            "'gew\xC3\xB6hnlich \xE2\x82\xAC \xF0\x9F\x9A\x9B'");
  EXPECT_EQ(quoted(""sv), "''");
  EXPECT_EQ(quoted("s"s), "'s'");
}

TEST(Quoted, EscapesControlCharacters) {
  EXPECT_EQ(quoted("\x1b[2J\n\t\x7f"sv), "'\\x1b[2J\\x0a\\x09\\x7f'");
  EXPECT_EQ(quoted("a\0b"sv), "'a\\x00b'");
  // U+009B is a terminal's escape too; U+00A0 is not.
  EXPECT_EQ(quoted("\xC2\x9B"
                   "2J"sv),
            "'\\xc2\\x9b2J'");
  EXPECT_EQ(quoted("\xC2\xA0"sv), "'\xC2\xA0'");
}

TEST(Quoted, EscapesWhatIsNotUtf8) {
  EXPECT_EQ(quoted("\xff\xC3"sv), "'\\xff\\xc3'");
  EXPECT_EQ(quoted("\xED\xA0\x80"sv), "'\\xed\\xa0\\x80'");
}

TEST(Quoted, CutsLongNamesBetweenCharacters) {
  EXPECT_EQ(quoted(std::string(200, 'a')), "'" + std::string(200, 'a') + "'");
  EXPECT_EQ(quoted(std::string(201, 'a')), "'" + std::string(200, 'a') + "...'");
  const std::string euros = std::string(199, 'a') + "\xE2\x82\xAC" + "b";
  EXPECT_EQ(quoted(euros), "'" + std::string(199, 'a') + "\xE2\x82\xAC...'");
}

TEST(Hex, IsLowerCaseWithoutPrefix) {
  EXPECT_EQ(hex(0), "0");
  EXPECT_EQ(hex(42), "2a");
  EXPECT_EQ(hex(~std::uint64_t{0}), "ffffffffffffffff");
}

TEST(Counted, UsesThePluralForAllNumbersButOne) {
  EXPECT_EQ(counted(0, "byte"), "0 bytes");
  EXPECT_EQ(counted(1, "byte"), "1 byte");
  EXPECT_EQ(counted(2, "entry", "entries"), "2 entries");
  EXPECT_EQ(counted(1, "entry", "entries"), "1 entry");
}

TEST(SizeText, UsesPowersOf1024WithOneDecimal) {
  EXPECT_EQ(size_text(0), "0 B");
  EXPECT_EQ(size_text(1023), "1023 B");
  EXPECT_EQ(size_text(1024), "1.0 KiB");
  EXPECT_EQ(size_text(1536), "1.5 KiB");
  EXPECT_EQ(size_text(402702336), "384.0 MiB");
  EXPECT_EQ(size_text(1705254912), "1.6 GiB");
  EXPECT_EQ(size_text(~std::uint64_t{0}), "16.0 EiB");
}

TEST(Hex16, HasSixteenDigits) {
  EXPECT_EQ(hex16(0), "0000000000000000");
  EXPECT_EQ(hex16(0x0123456789ABCDEF), "0123456789abcdef");
}

TEST(ShapeText, ListsTheDimensions) {
  const std::vector<std::uint64_t> dims = {2, 3, 0};
  EXPECT_EQ(shape_text(dims.data(), 3), "[2,3,0]");
  EXPECT_EQ(shape_text(nullptr, 0), "[]");
}

TEST(ShapeText, CutsAbsurdRanks) {
  const std::vector<std::uint64_t> dims(1000, 1);
  const std::string text = shape_text(dims.data(), dims.size());
  EXPECT_EQ(text.size(), 2 * 32 + std::string("[,...]").size() - 1);
  EXPECT_TRUE(text.ends_with(",1,...]"));
}

}  // namespace
}  // namespace flatbed
