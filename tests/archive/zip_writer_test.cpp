// ZipLayout: offsets and headers of a zip, by hand, and as the reader finds them.
#include "archive/zip_writer.hpp"

#include <gtest/gtest.h>

#include <string>

#include "archive/crc32.hpp"
#include "archive/zip_archive.hpp"
#include "base/bytes.hpp"
#include "support/bytes_source.hpp"
#include "support/expect_error.hpp"
#include "support/pickle_asm.hpp"

namespace flatbed::pth {
namespace {

using std::string;
using test::le;

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

TEST(ZipLayout, AlignsDataTo64Bytes) {
  const ZipLayout layout({{"a/b", 5}, {"a/c", 0}, {"a/d", 1}});
  EXPECT_EQ(layout.header_offset(0), 0u);
  EXPECT_EQ(layout.data_offset(0), 64u);
  EXPECT_EQ(layout.header_offset(1), 69u);
  EXPECT_EQ(layout.data_offset(1), 128u);
  EXPECT_EQ(layout.header_offset(2), 128u);
  EXPECT_EQ(layout.data_offset(2), 192u);
  EXPECT_EQ(layout.entries_nbytes(), 193u);
  EXPECT_EQ(layout.file_nbytes(), 193u + 3 * (46 + 3) + 56 + 20 + 22);
}

TEST(ZipLayout, WritesLocalHeaders) {
  const ZipLayout layout({{"a/b", 5}});
  EXPECT_EQ(layout.local_header(0, 0x11223344), "PK\x03\x04" + le(20, 2) + le(0x800, 2) + le(0, 2) +
                                                    le(0, 2) + le(0x21, 2) + "\x44\x33\x22\x11" +
                                                    le(5, 4) + le(5, 4) + le(3, 2) + le(31, 2) +
                                                    "a/b" + "FB" + le(27, 2) + string(27, 'Z'));
}

TEST(ZipLayout, UsesZip64FieldsFrom4GiBOn) {
  const ZipLayout layout({{"a/b", 4 * kGiB - 1}, {"a/c", 3}});
  EXPECT_EQ(layout.data_offset(0), 4096u);
  const string large = layout.local_header(0, 0);
  EXPECT_EQ(large.substr(18, 8), string(8, '\xff'));
  EXPECT_EQ(large.substr(33, 20), le(1, 2) + le(16, 2) + le(4 * kGiB - 1, 8) + le(4 * kGiB - 1, 8));
  EXPECT_EQ(layout.header_offset(1), 4 * kGiB + 4095);
  EXPECT_EQ(layout.data_offset(1) % 64, 0u);
  const string directory = layout.directory(std::vector<std::uint32_t>{1, 2});
  EXPECT_EQ(directory.size(), layout.file_nbytes() - layout.entries_nbytes());
  const string far = directory.substr(46 + 3 + 20);
  EXPECT_EQ(far.substr(42, 4), string(4, '\xff'));
  EXPECT_EQ(far.substr(46 + 3, 12), le(1, 2) + le(8, 2) + le(4 * kGiB + 4095, 8));
  EXPECT_EQ(directory.substr(directory.size() - 6), string(4, '\xff') + le(0, 2));
  EXPECT_EQ(ZipLayout({{"a/b", 4 * kGiB - 2}}).local_header(0, 0).substr(18, 4),
            le(4 * kGiB - 2, 4));
}

TEST(ZipLayout, IsReadBack) {
  const ZipLayout layout({{"a/b", 5}, {"a/c", 0}});
  const std::uint32_t crc = crc32_of(as_bytes("hello"));
  EXPECT_EQ(crc, 0x3610A686u);
  string zip = layout.local_header(0, crc) + "hello" + layout.local_header(1, 0);
  zip += layout.directory(std::vector<std::uint32_t>{crc, 0});
  EXPECT_EQ(zip.size(), layout.file_nbytes());
  const test::BytesSource file(zip);
  const Result<ZipArchive> archive = ZipArchive::open(file);
  ASSERT_OK(archive);
  ASSERT_NE(archive->find("a/b"), nullptr);
  EXPECT_EQ(archive->find("a/b")->data_offset, 64u);
  EXPECT_EQ(archive->find("a/c")->nbytes, 0u);
}

}  // namespace
}  // namespace flatbed::pth
