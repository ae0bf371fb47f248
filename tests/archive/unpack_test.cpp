// gzip, zlib, xz and lzma: whole, joined, followed by something, damaged.
#include "archive/unpack.hpp"

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "base/bytes.hpp"
#include "io/memory_source.hpp"
#include "support/expect_error.hpp"
#include "support/scan_payload.hpp"

namespace flatbed::pth {
namespace {

using std::string;
using test::packed;
using namespace std::string_literals;

struct Contents {
  string text = {};
  string error = {};  // empty: it was unpacked to its end
  std::uint64_t trailing = 0;
};

// In steps of 5 bytes, so that every state is met.
Contents unpack(const string& bytes, Packing packing) {
  const MemorySource file(as_bytes(bytes), "a");
  Result<Unpacker> unpacker = Unpacker::open(file, packing);
  if (!unpacker) return {.error = unpacker.error().message};
  Contents contents;
  for (std::array<std::byte, 5> buffer;;) {
    const Result<std::size_t> count = unpacker->read(buffer);
    if (!count) contents.error = count.error().message;
    if (!count || *count == 0) break;
    contents.text += as_text(std::span(buffer).first(*count));
  }
  contents.trailing = unpacker->trailing_nbytes();
  return contents;
}

string from_hex(std::string_view hex) {
  string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(string(hex.substr(i, 2)), nullptr, 16));
  return bytes;
}

TEST(FindPacking, GoesByTheFirstBytes) {
  EXPECT_EQ(find_packing(as_bytes("\x1f\x8b\x08"s)), Packing::gzip);
  EXPECT_EQ(find_packing(as_bytes("\x78\x9c"s)), Packing::zlib);
  EXPECT_EQ(find_packing(as_bytes("xylophone"s)), std::nullopt);
  EXPECT_EQ(find_packing(as_bytes("\xfd\x37zXZ\0"s)), Packing::xz);
  EXPECT_EQ(find_packing(as_bytes("7z\xbc\xaf\x27\x1c"s)), Packing::seven_zip);
  EXPECT_EQ(find_packing(as_bytes(""s)), std::nullopt);
}

TEST(Unpacker, UnpacksGzipAndZlib) {
  EXPECT_EQ(unpack(packed("hello, hello, hello"), Packing::gzip).text, "hello, hello, hello");
  EXPECT_EQ(unpack(packed("hello, hello, hello", 15), Packing::zlib).text, "hello, hello, hello");
  EXPECT_EQ(unpack(packed(""), Packing::gzip).error, "");
}

TEST(Unpacker, JoinsTheMembersOfAGzipFile) {
  const Contents joined = unpack(packed("first ") + packed("second"), Packing::gzip);
  EXPECT_EQ(joined.text, "first second");
  EXPECT_EQ(joined.trailing, 0u);
  const Contents padded = unpack(packed("first") + string(100'000, '\0'), Packing::gzip);
  EXPECT_EQ(padded.text, "first");
  EXPECT_EQ(padded.trailing, 0u);
}

TEST(Unpacker, CountsWhatFollows) {
  const Contents gzip = unpack(packed("first") + "\0\0more"s, Packing::gzip);
  EXPECT_EQ(gzip.text, "first");
  EXPECT_EQ(gzip.trailing, 4u);
  EXPECT_EQ(unpack(packed("first", 15) + "12345", Packing::zlib).trailing, 5u);
}

TEST(Unpacker, GivesWhatComesBeforeDamage) {
  const string whole = packed("hello, hello, hello");
  const Contents cut = unpack(whole.substr(0, whole.size() - 9), Packing::gzip);
  EXPECT_NE(cut.error.find("cut off"), string::npos) << cut.error;
  EXPECT_EQ(cut.text.substr(0, 5), "hello");
  EXPECT_NE(unpack("\x1f\x8b\x08 and so on", Packing::gzip).error, "");
}

TEST(Unpacker, UnpacksXzWhereTheBuildHasLiblzma) {
  const string xz = from_hex(
      "fd377a585a0000016922de360200210116000000742fe5a30100168002636f730a73797374656d0a580200000069"
      "6485522e0000f6df7c5400012b1785cd25d59042990d010000000001595a");
  const string lzma = from_hex(
      "5d00008000ffffffffffffffff0040008803bc30bd34de2f5e26d069fb35e81d870638a894cdc2fda8ffffe2b080"
      "00");
  const Contents contents = unpack(xz, Packing::xz);
  if (contents.error == "xz is not followed") GTEST_SKIP() << contents.error;
  const string text = "\x80\2cos\nsystem\nX\2\0\0\0id\x85R."s;
  EXPECT_EQ(contents.text, text) << contents.error;
  EXPECT_EQ(unpack(lzma, Packing::lzma).text, text);
  EXPECT_NE(unpack(xz.substr(0, 60), Packing::xz).error.find("cut off"), string::npos);
  EXPECT_NE(unpack(xz + "more", Packing::xz).error, "");
}

TEST(Unpacker, RefusesWhatItCannotUnpack) {
  const MemorySource file(as_bytes("BZh9"s), "a");
  EXPECT_ERROR(Unpacker::open(file, Packing::bzip2), unsupported_format);
}

}  // namespace
}  // namespace flatbed::pth
