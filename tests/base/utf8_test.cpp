// UTF-8 and WTF-8, against the definition: every code point, and every kind of malformed sequence.
#include "base/utf8.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace flatbed {
namespace {

// The bytes of a code point, surrogates too.
std::string encode(std::uint32_t code) {
  const auto byte = [](std::uint32_t value) { return static_cast<char>(value); };
  if (code < 0x80) return {byte(code)};
  if (code < 0x800) return {byte(0xC0 | code >> 6), byte(0x80 | (code & 63))};
  if (code < 0x10000)
    return {byte(0xE0 | code >> 12), byte(0x80 | (code >> 6 & 63)), byte(0x80 | (code & 63))};
  return {byte(0xF0 | code >> 18), byte(0x80 | (code >> 12 & 63)), byte(0x80 | (code >> 6 & 63)),
          byte(0x80 | (code & 63))};
}

TEST(Utf8, AcceptsEveryCodePointButSurrogates) {
  for (std::uint32_t code = 0; code <= 0x10FFFF; ++code) {
    const std::string text = encode(code);
    const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    ASSERT_EQ(is_utf8(text), !surrogate) << code;
    ASSERT_EQ(is_surrogate(text, 0), surrogate) << code;
    ASSERT_TRUE(is_wtf8(text)) << code;
    ASSERT_EQ(utf8_sequence(text, 0), surrogate ? 0 : text.size()) << code;
  }
}

TEST(Utf8, RefusesMalformedSequences) {
  for (const std::string text :
       {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2\x41", "\xE0\x80\x80", "\xE0\x9F\xBF",
        "\xE2\x82", "\xE2\x82\x41", "\xF0\x80\x80\x80", "\xF0\x8F\xBF\xBF", "\xF0\x9F\x9A",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFE", "\xFF"}) {
    EXPECT_FALSE(is_utf8(text));
    EXPECT_FALSE(is_wtf8(text));
    EXPECT_EQ(utf8_sequence(text, 0), 0u);
  }
}

TEST(Utf8, AcceptsTheEdgesOfEachLength) {
  for (const std::string text :
       {"\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
        "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_TRUE(is_utf8(text));
  }
  EXPECT_TRUE(is_utf8(""));
}

// Eight ASCII bytes are skipped at a time: a bad byte must be seen at every place.
TEST(Utf8, SeesABadByteAnywhereInAsciiText) {
  for (std::size_t size = 1; size < 40; ++size) {
    EXPECT_TRUE(is_utf8(std::string(size, 'a')));
    for (std::size_t at = 0; at < size; ++at) {
      std::string text(size, 'a');
      text[at] = '\xFF';
      EXPECT_FALSE(is_utf8(text)) << size << " " << at;
      EXPECT_FALSE(is_wtf8(text)) << size << " " << at;
    }
  }
}

TEST(Utf8, SeesASequenceThatTheTextCuts) {
  const std::string text = "abcdefg\xF0\x9F\x9A\x9B";
  EXPECT_TRUE(is_utf8(text));
  for (std::size_t size = 8; size < text.size(); ++size)
    EXPECT_FALSE(is_utf8(text.substr(0, size)));
}

TEST(Wtf8, ReplacesEachSurrogate) {
  EXPECT_EQ(replace_surrogates("a\xED\xA0\x80"
                               "b\xED\xBF\xBF\xC3\xA9"),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD\xC3\xA9");
  EXPECT_EQ(replace_surrogates("plain"), "plain");
  EXPECT_EQ(replace_surrogates(""), "");
}

}  // namespace
}  // namespace flatbed
