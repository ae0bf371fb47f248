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
  EXPECT_EQ(find_packing(as_bytes("\x1f\x8b\x07"s)), std::nullopt);
}

TEST(FindPacking, TakesNoTextForACompressedFile) {
  EXPECT_EQ(find_packing(as_bytes("x^2 + y^2 = z^2"s)), std::nullopt);
  EXPECT_EQ(find_packing(as_bytes("\x78\x5e\x4b\x4c\x02\0"s)), Packing::zlib);
  for (const string& text : {"BZhang wrote"s,
                             "BZh0"
                             "1AY&SY"s,
                             "BZh9"
                             "1AY&S"s})
    EXPECT_EQ(find_packing(as_bytes(text)), std::nullopt) << text;
  EXPECT_EQ(find_packing(as_bytes("BZh9"
                                  "1AY&SY"s)),
            Packing::bzip2);
  EXPECT_EQ(find_packing(as_bytes("BZh1\x17rE8P\x90\0\0\0\0"s)), Packing::bzip2);
}

TEST(FindPacking, KnowsLzmaByItsHeader) {
  const auto header = [](char properties, const string& dictionary, const string& nbytes,
                         char first) {
    return string(1, properties) + dictionary + nbytes + first;
  };
  const string unknown(8, '\xff'), ten = "\x0a\0\0\0\0\0\0\0"s;
  for (const string& head :
       {header('\x5d', "\0\0\x80\0"s, unknown, '\0'), header('[', "\0\0\x10\0"s, ten, '\0'),
        header('\xe0', "\0\0\xc0\0"s, ten, '\0'), header('[', "\xff\xff\xff\xff"s, ten, '\0')})
    EXPECT_EQ(find_packing(as_bytes(head)), Packing::lzma);
  for (const string& head : {header('\xe1', "\0\0\x80\0"s, ten, '\0'),  // properties
                             header('\x5d', "\0\0\x50\0"s, ten, '\0'),  // dictionary
                             header('\x5d', "\0\0\0\0"s, ten, '\0'),
                             header('\x5d', "\0\0\x80\0"s, string(8, '\0'), '\0'),  // size
                             header('\x5d', "\0\0\x80\0"s, string(8, '\x7f'), '\0'),
                             header('\x5d', "\0\0\x80\0"s, ten, '\1')})
    EXPECT_EQ(find_packing(as_bytes(head)), std::nullopt);
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
  if (contents.error == "this build cannot unpack xz files") GTEST_SKIP() << contents.error;
  const string text = "\x80\2cos\nsystem\nX\2\0\0\0id\x85R."s;
  EXPECT_EQ(contents.text, text) << contents.error;
  EXPECT_EQ(unpack(lzma, Packing::lzma).text, text);
  EXPECT_NE(unpack(xz.substr(0, 60), Packing::xz).error.find("cut off"), string::npos);
  EXPECT_NE(unpack(xz + "more", Packing::xz).error, "");
  EXPECT_EQ(unpack(lzma.substr(0, 30), Packing::lzma).error, "the lzma data is cut off");
  string large = lzma;
  large[4] = '\x08';  // a dictionary of 128 MiB
  EXPECT_EQ(unpack(large, Packing::lzma).error, "unpacking needs more than 80 MiB");
}

TEST(Unpacker, RefusesWhatItCannotUnpack) {
  const MemorySource file(as_bytes("BZh9"s), "a");
  EXPECT_ERROR(Unpacker::open(file, Packing::bzip2), unsupported_format);
  EXPECT_EQ(Unpacker::open(file, Packing::bzip2).error().message, "bzip2 files are not unpacked");
}

}  // namespace
}  // namespace flatbed::pth
