// ZipArchive: what torch and other writers make is read, and what two readers could read
// differently is refused.
#include "archive/zip_archive.hpp"

#include <gtest/gtest.h>

#include <string>

#include "base/bytes.hpp"
#include "support/bytes_source.hpp"
#include "support/expect_error.hpp"
#include "support/zip_builder.hpp"

namespace flatbed::pth {
namespace {

using test::build_zip;
using test::le;
using test::ZipEnding;
using test::ZipItem;

// Names and contents as the archive gives them, "name=contents;" each.
Result<std::string> listed(const std::string& bytes) {
  const test::BytesSource file(bytes);
  FLATBED_ASSIGN(const ZipArchive archive, ZipArchive::open(file));
  std::string out;
  for (const ZipEntry& entry : archive.entries()) {
    EXPECT_EQ(archive.find(entry.name), &entry);
    FLATBED_ASSIGN(const ByteBuffer contents, read_entry(file, entry, 1 << 20));
    out += std::string(entry.name) + "=" + std::string(as_text(contents)) + ";";
  }
  return out;
}

Result<std::string> listed(const std::vector<ZipItem>& items, const ZipEnding& ending = {}) {
  return listed(build_zip(items, ending));
}

const std::vector<ZipItem> kTwo = {{.name = "a/x", .data = "one"},
                                   {.name = "a/y", .data = "three"}};
constexpr const char* kTwoListed = "a/x=one;a/y=three;";

// kTwo with its first entry changed.
template <typename Change>
std::vector<ZipItem> with(Change change) {
  std::vector<ZipItem> items = kTwo;
  change(items[0]);
  return items;
}

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

TEST(ZipEnd, IsMissingInEveryPrefix) {
  const std::string bytes = build_zip(kTwo);
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_ERROR(listed(bytes.substr(0, size)), zip_end_missing) << size;
  EXPECT_ERROR(listed(kTwo, {.comment_nbytes = 1}), zip_end_missing);
  EXPECT_ERROR(listed(kTwo, {.after = std::string(70'000, 'j')}), zip_end_missing);
}

TEST(ZipEnd, MustBeTheOnlyOneThatFits) {
  const std::string bytes = build_zip(kTwo, {.zip64 = false});
  const std::string end = bytes.substr(bytes.size() - 22);
  // A second end record in the comment, and one that both fit.
  EXPECT_ERROR(listed(kTwo, {.zip64 = false, .comment = end}), zip_end_ambiguous);
  EXPECT_ERROR(listed(kTwo, {.comment = "PK\x05\x06 and more than twenty bytes"}),
               zip_end_ambiguous);
  const std::string twin = build_zip(kTwo, {.comment = "PK\x05\x07 and more than twenty bytes"});
  EXPECT_OK(listed(twin));
}

TEST(ZipEnd, MustDescribeTheDirectoryBeforeIt) {
  const ZipEnding plain{.zip64 = false};
  ASSERT_OK(listed(kTwo, plain));
  const auto refused = [&](auto change) {
    ZipEnding ending = plain;
    change(ending);
    EXPECT_ERROR(listed(kTwo, ending), zip_directory_malformed);
  };
  const std::uint64_t offset = build_zip(kTwo, plain).size() - 22 - 2 * 49;
  refused([&](ZipEnding& e) { e.directory_offset = offset - 1; });
  refused([&](ZipEnding& e) { e.directory_offset = offset + 1; });
  refused([](ZipEnding& e) { e.directory_offset = 0xFFFFFFFF; });
  refused([](ZipEnding& e) { e.directory_nbytes = 97; });
  refused([](ZipEnding& e) { e.directory_nbytes = 99; });
  refused([](ZipEnding& e) { e.count = 1; });
  refused([](ZipEnding& e) { e.count = 3; });
  refused([](ZipEnding& e) { e.count = 0; });
  refused([](ZipEnding& e) { e.disk = 1; });
  refused([](ZipEnding& e) { e.before_end = "gap"; });
}

TEST(ZipEnd, Zip64FieldsMustAgree) {
  ASSERT_OK(listed(
      kTwo, {.count = 0xFFFF, .directory_nbytes = 0xFFFFFFFF, .directory_offset = 0xFFFFFFFF}));
  const auto refused = [](const ZipEnding& ending) {
    EXPECT_ERROR(listed(kTwo, ending), zip64_malformed);
  };
  refused({.count64 = 3});
  refused({.directory_nbytes64 = 97});
  refused({.directory_offset64 = 1});
  refused({.directory_nbytes = 0xFFFFFFFF, .directory_nbytes64 = ~std::uint64_t{0}});
  refused({.directory_offset = 0xFFFFFFFF, .directory_offset64 = ~std::uint64_t{0}});
  refused({.size64 = 45});
  refused({.end64_offset = 0});
  refused({.end64_offset = ~std::uint64_t{0}});
}

TEST(ZipDirectory, EntriesMustFillIt) {
  EXPECT_ERROR(listed(with([](ZipItem& i) { i.central.signature = 0x02014B51; })),
               zip_directory_malformed);
  EXPECT_ERROR(listed(kTwo, {.count = 2, .count64 = 2, .before_end = "x"}), zip64_malformed);
  // An extra field that leaves its entry.
  EXPECT_ERROR(
      listed(with([](ZipItem& i) { i.central.extra = "\x01" + le(0, 1) + le(200, 2) + "x"; })),
      zip_directory_malformed);
  EXPECT_ERROR(listed(with([](ZipItem& i) { i.central.extra = "abc"; })), zip_directory_malformed);
  EXPECT_ERROR(listed(with([](ZipItem& i) { i.central.disk = 1; })), zip_directory_malformed);
  EXPECT_OK(listed(with([](ZipItem& i) { i.central.extra = "UT" + le(5, 2) + "12345"; })));
}

TEST(ZipDirectory, OnlySomeFlagsAreAllowed) {
  for (int bit = 0; bit < 16; ++bit) {
    const auto flag = static_cast<std::uint16_t>(1 << bit);
    const auto both = listed(with([flag](ZipItem& i) { i.flags = flag; }));
    if (flag == 0x0008) {
      EXPECT_OK(both);
      continue;
    }
    if (flag == 0x0800) {  // without flag 8 the local header may not defer its sizes
      EXPECT_ERROR(both, zip_local_mismatch);
      continue;
    }
    EXPECT_ERROR(both, zip_flags_refused) << flag;
    EXPECT_ERROR(listed(with([flag](ZipItem& i) { i.central.flags = 0x0808 | flag; })),
                 zip_flags_refused)
        << flag;
    EXPECT_ERROR(listed(with([flag](ZipItem& i) { i.local.flags = 0x0808 | flag; })),
                 zip_local_mismatch)
        << flag;
  }
}

TEST(ZipDirectory, OnlyStoredAndDeflatedAreAllowed) {
  for (int method = 1; method < 256; ++method) {
    const auto changed = static_cast<std::uint16_t>(method);
    EXPECT_ERROR(listed(with([changed](ZipItem& i) { i.local.method = changed; })),
                 zip_local_mismatch);
    if (method == 8) continue;
    EXPECT_ERROR(listed(with([changed](ZipItem& i) { i.method = changed; })), zip_method_refused);
    EXPECT_ERROR(listed(with([changed](ZipItem& i) { i.central.method = changed; })),
                 zip_method_refused);
  }
}

TEST(ZipDirectory, NamesArePlain) {
  const auto named = [](const std::string& name) {
    return listed(with([&](ZipItem& i) { i.name = name; }));
  };
  using std::string;
  for (const string& name :
       {string(""), string("/a"), string("a//b"), string("a/./b"), string("../a"), string("a/.."),
        string("."), string("a\\b"), string("a\0b", 3), string("a\nb"), string("/"), string("a//")})
    EXPECT_ERROR(named(name), zip_name_refused) << name;
  for (const string& name : {string("a"), string("a/.hidden"), string("a/..b"),
                             string("\xe5\x90\x8d/data"), string(65'000, 'n')})
    EXPECT_OK(named(name)) << name.substr(0, 20);
  // A second name in an Info-ZIP field.
  EXPECT_ERROR(listed(with([](ZipItem& i) {
                 i.central.extra = "\x75\x70" + le(8, 2) + "\1" + le(0, 4) + "a/y";
               })),
               zip_name_refused);
}

// Python's zipfile and torch refuse such a name; others show it as one that is not in the file.
TEST(ZipDirectory, NamesThatAreCalledUtf8AreUtf8) {
  for (const char* name : {"a/caf\xe9", "a/\xc0\xaf", "a/\xed\xa0\x80", "a/\xff"}) {
    EXPECT_ERROR(listed({{.name = name, .data = "one"}}), zip_name_refused) << name;
    EXPECT_OK(listed({{.name = name, .data = "one", .flags = 0x0008}})) << name;
  }
  EXPECT_OK(listed({{.name = "a/caf\xc3\xa9", .data = "one"}}));
}

TEST(ZipDirectory, NamesDifferInMoreThanCase) {
  const auto pair = [](const std::string& a, const std::string& b) {
    return listed({{.name = a, .data = "1"}, {.name = b, .data = "1"}});
  };
  EXPECT_ERROR(pair("a/x", "a/x"), zip_duplicate_name);
  EXPECT_ERROR(pair("a/data.pkl", "a/DATA.PKL"), zip_duplicate_name);
  EXPECT_ERROR(pair("a/x", "A/x"), zip_duplicate_name);
  EXPECT_OK(pair("a/x", "a/x1"));
  EXPECT_OK(pair("a/x@", "a/x`")) << "these differ in the bit that makes letters lower case";
}

TEST(ZipDirectory, FindsExactNamesOnly) {
  const test::BytesSource file(build_zip(kTwo));
  const ZipArchive archive = ZipArchive::open(file).value();
  EXPECT_NE(archive.find("a/x"), nullptr);
  EXPECT_EQ(archive.find("A/X"), nullptr);
  EXPECT_EQ(archive.find("a/z"), nullptr);
  EXPECT_EQ(archive.find(""), nullptr);
}

TEST(ZipDirectory, StoredSizesAreEqual) {
  EXPECT_ERROR(listed(with([](ZipItem& i) { i.central.nbytes = 4; })), zip_directory_malformed);
  EXPECT_ERROR(listed(with([](ZipItem& i) { i.central.stored_nbytes = 2; })),
               zip_directory_malformed);
  EXPECT_ERROR(listed(with([](ZipItem& i) { i.name = "a/x/"; })), zip_directory_malformed)
      << "a folder with data";
}

TEST(Zip64Extra, HoldsExactlyTheMarkedFields) {
  constexpr std::uint32_t kMark = 0xFFFFFFFF;
  const auto field = [](const std::string& values) {
    return le(1, 2) + le(values.size(), 2) + values;
  };
  const auto marked = [&](const std::string& extra) {
    return with([&](ZipItem& i) {
      i.central.stored_nbytes = kMark;
      i.central.nbytes = kMark;
      i.central.extra = extra;
    });
  };
  ASSERT_OK(listed(marked(field(le(3, 8) + le(3, 8)))));
  // torch beyond 4 GiB: only the offset is marked, and the local header has a field of 8 bytes as
  // well.
  ASSERT_OK(listed(with([&](ZipItem& i) {
    i.central.offset = kMark;
    i.central.extra = field(le(0, 8));
    i.local.extra = field(le(0, 8));
  })));
  for (const int size : {0, 4, 7, 8, 12, 20, 24, 28, 32})
    EXPECT_ERROR(listed(marked(field(std::string(static_cast<std::size_t>(size), '\0')))),
                 zip64_malformed)
        << size;
  EXPECT_ERROR(listed(marked("")), zip64_malformed);
  EXPECT_ERROR(listed(with([&](ZipItem& i) { i.central.extra = field(le(3, 8)); })),
               zip64_malformed)
      << "none is marked";
  EXPECT_ERROR(listed(marked(field(le(3, 8) + le(3, 8)) + field(le(3, 8) + le(3, 8)))),
               zip_directory_malformed);
  EXPECT_ERROR(listed(marked(field(le(1ULL << 62, 8) + le(1ULL << 62, 8)))), zip_out_of_bounds);
  EXPECT_ERROR(listed(marked(field(le(~0ULL, 8) + le(~0ULL, 8)))), zip_out_of_bounds);
}

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
