// Which records of a zip are numbers, whatever they look like, and which are looked into.
#include "scan/zip_scan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "support/legacy_builder.hpp"
#include "support/scan_bytes.hpp"
#include "support/scan_payload.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

using test::build_zip;
using test::find;
using test::le;
using test::payload;
using test::says;
using test::scan_bytes;
using test::show;
using test::torch_items;
using test::torch_zip;
using test::verdict_of;
using test::ZipItem;
using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
using std::string;
using namespace std::string_literals;

constexpr auto kPlain = ScanVerdict::plain;
constexpr auto kUnknown = ScanVerdict::unknown;
constexpr auto kDangerous = ScanVerdict::dangerous;

TEST(ZipScan, TakesTheStoragesOfAPickleForNumbers) {
  // A counter of batches, 0x2e93'0280, is a pickle that imports what it computes.
  for (const string& numbers : {"\x80\2\x93.\0\0\0\0"s, payload(), "7z\xbc\xaf\x27\x1c"s}) {
    const ScanReport report = scan_bytes(torch_zip({.storages = {{"0", numbers}}}));
    EXPECT_EQ(report.verdict, kPlain) << show(report);
    EXPECT_EQ(report.files[0].pickles, 1u);
  }
}

TEST(ZipScan, LooksIntoARecordThatNoPickleUses) {
  std::vector<ZipItem> items = torch_items({.storages = {{"0", payload()}, {"1", payload()}}});
  const ScanReport report = scan_bytes(build_zip(items));
  EXPECT_EQ(report.verdict, kDangerous);
  ASSERT_NE(find(report, ScanKind::called, "os.system"), nullptr);
  EXPECT_EQ(find(report, ScanKind::called, "os.system")->record, "archive/data/1");
  // A storage of constants.pkl has the same key, but another folder.
  items.pop_back();
  items.push_back({.name = "archive/constants/0", .data = payload()});
  EXPECT_EQ(verdict_of(build_zip(items)), kDangerous);
}

TEST(ZipScan, TakesTheConstantsOfTorchScriptForNumbers) {
  std::vector<ZipItem> items = torch_items({.storages = {{"0", payload()}}});
  items.push_back({.name = "archive/constants/0", .data = payload()});
  items.push_back({.name = "archive/constants.pkl", .data = finish(tuple({storage()}))});
  const ScanReport report = scan_bytes(build_zip(items));
  EXPECT_EQ(report.verdict, kUnknown) << show(report);
  EXPECT_EQ(find(report, ScanKind::hidden), nullptr) << show(report);
}

TEST(ZipScan, StopsWhereAnUnpicklerStopsInARecordThatIsNoPickle) {
  std::vector<ZipItem> items = torch_items();
  items.push_back({.name = "archive/data/9",
                   .data = "\x80\2\x93"
                           "cos\nsystem\n.\0\0"s});
  const ScanReport report = scan_bytes(build_zip(items));
  EXPECT_EQ(report.verdict, kUnknown) << show(report);
  EXPECT_NE(find(report, ScanKind::hidden), nullptr) << show(report);
}

TEST(ZipScan, LooksIntoArchivesInTheZip) {
  std::vector<ZipItem> items = torch_items();
  items.push_back({.name = "archive/x", .data = torch_zip({.pickle = payload()})});
  const ScanReport inner = scan_bytes(build_zip(items));
  EXPECT_EQ(inner.verdict, kDangerous) << show(inner);
  EXPECT_TRUE(std::ranges::any_of(inner.findings, [](const ScanFinding& finding) {
    return finding.qualname == "system" && finding.record == "archive/x/archive/data.pkl";
  })) << show(inner);
  items.back() = test::deflated_item("archive/x", torch_zip({.pickle = payload()}));
  EXPECT_EQ(verdict_of(build_zip(items)), kDangerous);
  items.back() = {.name = "archive/x", .data = test::packed(payload())};
  EXPECT_EQ(verdict_of(build_zip(items)), kDangerous);
  items.back() = {.name = "archive/x", .data = torch_zip()};
  EXPECT_EQ(verdict_of(build_zip(items)), kUnknown);
  items.back() = {.name = "archive/x", .data = "7z\xbc\xaf\x27\x1c\0\4 and so on"s};
  const ScanReport seven = scan_bytes(build_zip(items));
  EXPECT_EQ(seven.verdict, kUnknown);
  EXPECT_TRUE(says(seven, ScanKind::hidden, "a 7z file")) << show(seven);
}

TEST(ZipScan, EndsInZipsWithinZips) {
  string zip = torch_zip({.pickle = payload()});
  for (int depth = 0; depth < 6; ++depth) zip = build_zip({test::deflated_item("a/x", zip)});
  const ScanReport report = scan_bytes(zip);
  EXPECT_EQ(report.verdict, kUnknown);
  EXPECT_TRUE(says(report, ScanKind::unseen, "nested more than 4 levels deep")) << show(report);
}

TEST(ZipScan, SeesAnArrayOfObjectsInAStorageAndInAFolder) {
  // numpy.load() takes every record for an array that begins like one.
  const string header = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n";
  const string objects = "\x93NUMPY\1\0"s + le(header.size(), 2) + header + payload();
  EXPECT_EQ(verdict_of(torch_zip({.storages = {{"0", objects}}})), kDangerous);
  std::vector<ZipItem> items = torch_items({.storages = {{"0", objects}}});
  items[2] = test::deflated_item(items[2].name, objects);
  EXPECT_EQ(verdict_of(build_zip(items)), kDangerous);
  items = torch_items();
  items.push_back({.name = "archive/x.npy/", .data = objects});
  EXPECT_EQ(verdict_of(build_zip(items)), kDangerous);
  items.back().data = "";
  EXPECT_EQ(verdict_of(build_zip(items)), kPlain);
}

TEST(ZipScan, NamesTheCodeAmongTheRecords) {
  std::vector<ZipItem> items = torch_items();
  items.push_back({.name = "archive/data/aotinductor/model/m.so",
                   .data = "\x7f"
                           "ELF"});
  items.push_back({.name = "archive/a.py", .data = "import os\n"});
  items.push_back({.name = "archive/B.PY", .data = "import os\n"});
  const ScanReport report = scan_bytes(build_zip(items));
  EXPECT_EQ(report.verdict, kUnknown) << show(report);
  EXPECT_TRUE(says(report, ScanKind::code, "native code, which is not analyzed"));
  const auto python = std::ranges::find_if(report.findings, [](const ScanFinding& finding) {
    return finding.text == "Python code, which is not analyzed";
  });
  ASSERT_NE(python, report.findings.end());
  EXPECT_EQ(python->record, "archive/a.py");
  EXPECT_EQ(python->count, 2u);
}

TEST(ZipScan, TakesAnArrayOfNumbersByItsHeader) {
  // Twelve arrays of 16 MB, which deflate to a thousandth.
  const string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (4000000,), }\n";
  const string numbers =
      "\x93NUMPY\1\0"s + le(header.size(), 2) + header + string(16'000'000, '\0');
  ZipItem item = test::deflated_item("a0.npy", numbers);
  std::vector<ZipItem> items;
  for (int i = 0; i < 12; ++i) {
    item.name = "a" + std::to_string(i) + ".npy";
    items.push_back(item);
  }
  const ScanReport report = scan_bytes(build_zip(items));
  EXPECT_EQ(report.verdict, kPlain) << show(report);
  EXPECT_EQ(report.files[0].what, "a zip of NumPy arrays");
}

TEST(TarScan, LimitsTheWorkForMembersThatOverlap) {
  // Each of the links claims all that follows it, and is a tar itself.
  std::vector<test::TarItem> items;
  for (std::size_t i = 0; i < 60; ++i)
    items.push_back({.name = "link", .kind = '2', .size = test::octal((59 - i) * 512 + 1024, 11)});
  const ScanReport report = scan_bytes(test::build_tar(items));
  EXPECT_EQ(report.verdict, kUnknown);
  EXPECT_TRUE(says(report, ScanKind::container, "not scanned: the records together are too large"))
      << show(report);
}

TEST(TarScan, TakesTheStoragesOfATarForNumbers) {
  test::TorchTar tar = test::torch_tar_parts();
  const std::size_t numbers = tar.storages.find(string(24, '\1'));
  ASSERT_NE(numbers, string::npos);
  tar.storages.replace(numbers, payload().size(), payload());
  const ScanReport report = scan_bytes(test::torch_tar(tar));
  EXPECT_EQ(report.verdict, kUnknown) << show(report);
  EXPECT_EQ(find(report, ScanKind::called, "os.system"), nullptr);
}

TEST(TarScan, LooksIntoFilesInATar) {
  const auto tar_of = [](const string& data) {
    return test::build_tar({{.name = "weights.ckpt", .data = data}});
  };
  EXPECT_EQ(verdict_of(tar_of(torch_zip({.pickle = payload()}))), kDangerous);
  EXPECT_EQ(verdict_of(tar_of(test::packed(payload()))), kDangerous);
  const ScanReport report = scan_bytes(tar_of(torch_zip({.storages = {{"0", payload()}}})));
  EXPECT_EQ(report.verdict, kUnknown) << show(report);
}

}  // namespace
}  // namespace flatbed
