// TarArchive: the members of a tar as torch wrote them, and headers that lie.
#include "archive/tar_archive.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/bytes_source.hpp"
#include "support/expect_error.hpp"
#include "support/legacy_builder.hpp"

namespace flatbed::pth {
namespace {

using std::string;
using test::build_tar;
using test::octal;
using test::TarItem;

Result<TarArchive> open_items(const std::vector<TarItem>& items) {
  const test::BytesSource file(build_tar(items));
  return TarArchive::open(file);
}

TEST(TarArchive, ListsFilesAndPassesOverFolders) {
  const auto archive = open_items({{.name = "d/", .kind = '5'},
                                   {.name = "a", .data = "abc"},
                                   {.name = "b", .data = string(513, 'b')},
                                   {.name = "c", .kind = '\0'}});
  ASSERT_OK(archive);
  ASSERT_EQ(archive->members().size(), 3u);
  EXPECT_EQ(archive->find("a")->offset, 1024u);
  EXPECT_EQ(archive->find("a")->nbytes, 3u);
  EXPECT_EQ(archive->find("b")->offset, 2048u);
  EXPECT_EQ(archive->find("c")->nbytes, 0u);
  EXPECT_EQ(archive->find("d"), nullptr);
}

TEST(TarArchive, ReadsBothFormsOfNumbersAndNames) {
  const string gnu("ustar  \0", 8);
  EXPECT_OK(open_items({{.name = "a", .data = "abc", .magic = gnu}}));
  EXPECT_OK(open_items({{.name = "a", .data = "abc", .size = octal(3, 10) + '\0'}}));
  EXPECT_OK(open_items({{.name = "a", .data = "abc", .size = "          3 "}}));
  EXPECT_OK(open_items({{.name = "a", .data = "abc", .size = "\x80" + string(10, '\0') + "\3"}}));
  const auto prefixed = open_items({{.name = "a", .prefix = "folder"}});
  ASSERT_OK(prefixed);
  EXPECT_NE(prefixed->find("folder/a"), nullptr);
  const auto gnu_prefix = open_items({{.name = "a", .magic = gnu, .prefix = "folder"}});
  ASSERT_OK(gnu_prefix);
  EXPECT_NE(gnu_prefix->find("a"), nullptr);
}

TEST(TarArchive, RefusesHeadersThatLie) {
  const auto sized = [](const string& size) {
    return open_items({{.name = "a", .data = "abc", .size = size}});
  };
  EXPECT_OK(sized(octal(3, 11)));
  EXPECT_OK(sized(octal(1024, 11))) << "over the zeros, which then lack";
  EXPECT_ERROR(sized(octal(1537, 11)), tar_malformed);
  EXPECT_ERROR(sized(octal(1ULL << 32, 11)), tar_malformed);
  EXPECT_ERROR(sized("\x80" + string(3, '\0') + string(8, '\xff')), tar_malformed);
  EXPECT_ERROR(sized(string(12, '\xff')), tar_malformed) << "negative";
  EXPECT_ERROR(sized("0000000000x "), tar_malformed);
  EXPECT_ERROR(sized(string(12, '\0')), tar_malformed);
  EXPECT_ERROR(open_items({{.name = "a", .sum = octal(1, 6) + ' '}}), tar_malformed);
  EXPECT_ERROR(open_items({{.name = "a", .sum = "        "}}), tar_malformed);
  EXPECT_ERROR(open_items({{.name = "a"}, {.name = "b", .magic = "12345678"}}), tar_malformed);
}

TEST(TarArchive, RefusesLinksAndNamesThatOccurTwice) {
  EXPECT_OK(open_items({{.name = "a"}, {.name = "b"}}));
  EXPECT_ERROR(open_items({{.name = "a"}, {.name = "a"}}), tar_malformed);
  for (const char kind : {'1', '2', '3', '6', '7', 'L', 'K', 'S', 'V'})
    EXPECT_ERROR(open_items({{.name = "a", .kind = kind}}), tar_malformed) << kind;
}

TEST(TarArchive, TakesPaxRecordsOfTimesAlone) {
  const auto pax = [](const string& records) {
    return open_items({{.name = "x", .data = records, .kind = 'x'}, {.name = "a"}});
  };
  EXPECT_OK(pax("20 mtime=1480000000.25\n"));
  EXPECT_ERROR(pax("12 path=b\n"), tar_malformed);
  EXPECT_ERROR(pax("20 mtime=1480000000.2\n11 size=9\n"), tar_malformed);
  EXPECT_ERROR(pax(string(70'000, 'x')), tar_malformed);
}

TEST(TarArchive, ArchivesOfManyFilesAreOfSomethingElse) {
  std::vector<TarItem> items;
  for (std::size_t i = 0; i < kMaxTarMembers; ++i) items.push_back({.name = std::to_string(i)});
  EXPECT_OK(open_items(items));
  items.push_back({.name = "more"});
  EXPECT_ERROR(open_items(items), unsupported_layout);
}

}  // namespace
}  // namespace flatbed::pth
