// ZipArchive: what torch and other writers make is read; and read_entry(), also of deflated
// entries.
#include "archive/zip_archive.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/bytes_source.hpp"
#include "support/expect_error.hpp"
#include "support/listed_zip.hpp"

namespace flatbed::pth {
namespace {

TEST(ZipArchive, ReadsWhatTorchWrites) {
  const auto found = listed(kTwo);
  ASSERT_OK(found);
  EXPECT_EQ(*found, kTwoListed);
}

TEST(ZipArchive, ReadsOtherWritersForms) {
  std::vector<ZipItem> plain = kTwo;
  for (ZipItem& item : plain) {
    item.flags = 0;
    item.zeros = false;
    item.padded = false;
  }
  const auto stored = listed(plain, {.zip64 = false});
  ASSERT_OK(stored);
  EXPECT_EQ(*stored, kTwoListed);

  const std::string long_text(100'000, 'x');
  ZipItem item = test::deflated_item("a/x", long_text);
  for (const int level : {0, 2, 4, 6}) {
    item.flags = static_cast<std::uint16_t>(level);
    item.zeros = false;
    const auto deflated = listed({item});
    ASSERT_OK(deflated);
    EXPECT_EQ(*deflated, "a/x=" + long_text + ";");
  }
}

TEST(ZipArchive, ReadsEmptyEntriesAndFolders) {
  ZipItem empty{.name = "a/none", .data = "", .flags = 0x0800, .zeros = false};
  ZipItem folder{.name = "a/b/", .data = "", .flags = 0, .zeros = false};
  const auto found = listed({empty, folder, kTwo[1]});
  ASSERT_OK(found);
  EXPECT_EQ(*found, "a/none=;a/b/=;a/y=three;");
}

TEST(ZipArchive, ReadsEntriesWhoseDirectoryIsInAnotherOrder) {
  // Swap the two central headers: both are 46 + 3 bytes.
  std::string bytes = build_zip(kTwo, {.zip64 = false});
  const std::size_t directory = bytes.size() - 22 - 2 * 49;
  bytes = bytes.substr(0, directory) + bytes.substr(directory + 49, 49) +
          bytes.substr(directory, 49) + bytes.substr(bytes.size() - 22);
  const auto found = listed(bytes);
  ASSERT_OK(found);
  EXPECT_EQ(*found, "a/y=three;a/x=one;");
}

TEST(ZipArchive, ReadsManyEntriesNearAndFar) {
  std::vector<ZipItem> items;
  std::string wanted;
  for (int i = 0; i < 300; ++i) {
    const std::string data(i % 7 == 0 ? 100'000 : 10, static_cast<char>('a' + i % 26));
    items.push_back({.name = "a/" + std::to_string(i), .data = data});
    wanted += items.back().name + "=" + data + ";";
  }
  const auto found = listed(items);
  ASSERT_OK(found);
  EXPECT_TRUE(*found == wanted);
}

TEST(ZipArchive, AcceptsACommentAndReportsTrailingBytes) {
  ASSERT_OK(listed(kTwo, {.comment = "made by hand"}));
  ASSERT_OK(listed(kTwo, {.comment = std::string(0xFFFF, 'c')}));
  const test::BytesSource file(build_zip(kTwo, {.after = "junk"}));
  const auto archive = ZipArchive::open(file);
  ASSERT_OK(archive);
  EXPECT_EQ(archive->trailing_nbytes(), 4u);
}

TEST(ZipArchive, DataThatLooksLikeAZipIsData) {
  const std::string inner = build_zip({{.name = "b/z", .data = "inner"}});
  const auto found = listed({{.name = "a/x", .data = inner}, kTwo[1]});
  ASSERT_OK(found);
  EXPECT_EQ(*found, "a/x=" + inner + ";a/y=three;");
}

TEST(ZipDeflate, MustInflateToItsSize) {
  const ZipItem good = test::deflated_item("a/x", std::string(5000, 'x') + "end");
  ASSERT_OK(listed({good}));
  const auto changed = [&](auto change) {
    ZipItem item = good;
    change(item);
    return listed({item});
  };
  EXPECT_ERROR(changed([](ZipItem& i) { i.nbytes = 5002; }), zip_deflate_malformed);
  EXPECT_ERROR(changed([](ZipItem& i) { i.nbytes = 5004; }), zip_deflate_malformed);
  EXPECT_ERROR(changed([](ZipItem& i) { i.nbytes = 0; }), zip_deflate_malformed);
  EXPECT_ERROR(changed([](ZipItem& i) { i.data.pop_back(); }), zip_deflate_malformed);
  EXPECT_ERROR(changed([](ZipItem& i) { i.data += "x"; }), zip_deflate_malformed)
      << "bytes after the stream";
  EXPECT_ERROR(changed([](ZipItem& i) { i.data = "\x07"; }), zip_deflate_malformed)
      << "reserved block type";
  EXPECT_ERROR(changed([](ZipItem& i) { i.data = ""; }), zip_deflate_malformed);
  EXPECT_ERROR(changed([](ZipItem& i) { i.nbytes = 100'000'000; }), zip_deflate_malformed)
      << "an impossible ratio";
}

TEST(ZipDeflate, ReadEntryHasALimit) {
  const test::BytesSource file(build_zip({test::deflated_item("a/x", std::string(100'000, 'x'))}));
  const ZipArchive archive = ZipArchive::open(file).value();
  EXPECT_OK(read_entry(file, archive.entries()[0], 100'000));
  EXPECT_ERROR(read_entry(file, archive.entries()[0], 99'999), limit_exceeded);
}

// One flipped bit is an error, unless it lies in the data (whose CRC is not checked) or in a field
// without meaning.
TEST(ZipArchive, NoFlippedBitChangesWhatIsListed) {
  const std::string good = build_zip(kTwo);
  const std::size_t first = good.find("one"), second = good.find("three");
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    const std::size_t at = bit / 8;
    if ((at >= first && at < first + 3) || (at >= second && at < second + 5)) continue;
    std::string bytes = good;
    bytes[at] = static_cast<char>(bytes[at] ^ 1 << bit % 8);
    const auto found = listed(bytes);
    EXPECT_TRUE(!found || *found == kTwoListed) << bit;
  }
}

}  // namespace
}  // namespace flatbed::pth
