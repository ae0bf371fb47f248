// The local headers of a zip, which agree with the central directory and lie apart.
#include "archive/zip_local.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/expect_error.hpp"
#include "support/listed_zip.hpp"

namespace flatbed::pth {
namespace {

using test::le;

TEST(ZipLocalHeader, MustAgreeWithTheDirectory) {
  EXPECT_ERROR(listed(with([](ZipItem& i) { i.local.signature = 0x04034B51; })),
               zip_local_mismatch);
  for (const char* name : {"a/z", "a/X", "a/xx", "a/", ""})
    EXPECT_ERROR(listed(with([name](ZipItem& i) { i.local.name = name; })), zip_local_mismatch)
        << name;
  EXPECT_ERROR(listed(with([](ZipItem& i) { i.local.flags = 0; })), zip_local_mismatch);
  EXPECT_ERROR(listed(with([](ZipItem& i) { i.local.crc = 1; })), zip_local_mismatch);
  EXPECT_ERROR(listed(with([](ZipItem& i) { i.local.nbytes = 4; })), zip_local_mismatch);
  EXPECT_ERROR(listed(with([](ZipItem& i) { i.local.stored_nbytes = 2; })), zip_local_mismatch);
  EXPECT_OK(listed(with([](ZipItem& i) { i.local.nbytes = 3, i.local.stored_nbytes = 3; })));
  const auto extra = [](const std::string& bytes) {
    return listed(with([&](ZipItem& i) { i.local.extra = bytes, i.padded = false; }));
  };
  EXPECT_OK(extra("UT" + le(2, 2) + "ab"));
  EXPECT_ERROR(extra("UT" + le(3, 2) + "ab"), zip_directory_malformed)
      << "the data would begin elsewhere";
}

TEST(ZipLocalHeader, SizesAreThereWithoutADescriptor) {
  const auto plain = [](auto change) {
    return listed(with([&](ZipItem& i) {
      i.flags = 0;
      i.zeros = false;
      change(i);
    }));
  };
  ASSERT_OK(plain([](ZipItem&) {}));
  EXPECT_ERROR(plain([](ZipItem& i) { i.local.crc = 0; }), zip_local_mismatch);
  EXPECT_ERROR(plain([](ZipItem& i) { i.local.nbytes = 0; }), zip_local_mismatch);
  EXPECT_ERROR(plain([](ZipItem& i) { i.local.stored_nbytes = 0; }), zip_local_mismatch);
  const auto zip64 = [&](const std::string& values) {
    return plain([&](ZipItem& i) {
      i.local.nbytes = 0xFFFFFFFF;
      i.local.stored_nbytes = 0xFFFFFFFF;
      i.local.extra = le(1, 2) + le(values.size(), 2) + values;
    });
  };
  EXPECT_OK(zip64(le(3, 8) + le(3, 8)));
  EXPECT_ERROR(zip64(le(3, 8) + le(4, 8)), zip_local_mismatch);
  EXPECT_ERROR(zip64(le(3, 8)), zip64_malformed);
}

TEST(ZipLayout, EntriesStayInTheFileAndApart) {
  EXPECT_ERROR(
      listed(with([](ZipItem& i) { i.central.stored_nbytes = 1000, i.central.nbytes = 1000; })),
      zip_out_of_bounds);
  EXPECT_ERROR(
      listed(with([](ZipItem& i) { i.central.stored_nbytes = 100, i.central.nbytes = 100; })),
      zip_overlap);
  EXPECT_ERROR(listed(with([](ZipItem& i) { i.central.offset = 0x7FFFFFFF; })),
               zip_directory_malformed);
  std::vector<ZipItem> items = kTwo;
  items[1].central.offset = 0x7FFFFFFF;
  EXPECT_ERROR(listed(items), zip_out_of_bounds);
  items[1].central.offset = 0;  // both on one local header
  items[1].local.name = "a/x";
  EXPECT_ERROR(listed(items), zip_overlap);
  // The last entry reaches into the directory.
  items = kTwo;
  items[1].central.stored_nbytes = items[1].central.nbytes = 30;
  EXPECT_ERROR(listed(items), zip_overlap);
}

TEST(ZipLayout, OneByteIsAnOverlap) {
  const auto sized = [](std::uint32_t nbytes) {
    return listed(with([&](ZipItem& i) {
      i.flags = 0;
      i.zeros = false;
      i.local.stored_nbytes = i.local.nbytes = i.central.stored_nbytes = i.central.nbytes = nbytes;
    }));
  };
  EXPECT_OK(sized(3));  // to the next local header
  EXPECT_ERROR(sized(4), zip_overlap);
}

TEST(ZipLayout, QuotedEntriesOverlap) {
  // The first entry's data hold the local header of the second, as zip bombs do.
  const std::string inner = build_zip({kTwo[1]});
  std::vector<ZipItem> items = {{.name = "a/x", .data = inner, .padded = false}, kTwo[1]};
  items[1].central.offset = 33;
  EXPECT_ERROR(listed(items), zip_overlap);
}

// Which error is found first must not depend on how a sort treats equal offsets.
TEST(ZipLayout, EntriesOnOneLocalHeaderAreComparedInTheDirectorysOrder) {
  std::vector<ZipItem> items = kTwo;  // the second one makes the directory unsorted
  for (int i = 0; i < 200; ++i) {
    items.push_back({.name = "a/" + std::to_string(i), .data = "two"});
    items.back().central.offset = 0;
  }
  const auto behind = listed(items);
  EXPECT_ERROR(behind, zip_overlap);
  EXPECT_NE(behind.error().message.find("'a/x'"), std::string::npos) << behind.error().message;
  const auto wrong_first = [](ZipItem& i) { i.local.name = "a/z"; };
  items = with(wrong_first);
  items[1].central.offset = 0;
  EXPECT_ERROR(listed(items), zip_local_mismatch);
}

TEST(ZipLayout, BeginsWithItsFirstEntry) {
  std::vector<ZipItem> items = kTwo;
  items[0].listed = false;
  EXPECT_ERROR(listed(items), zip_directory_malformed);
}

}  // namespace
}  // namespace flatbed::pth
