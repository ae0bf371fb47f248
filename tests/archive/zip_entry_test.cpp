// The entries of a central directory: what two readers could read differently is refused.
#include "archive/zip_entry.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/expect_error.hpp"
#include "support/listed_zip.hpp"

namespace flatbed::pth {
namespace {

using test::le;

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

}  // namespace
}  // namespace flatbed::pth
