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
  EXPECT_TRUE(says(report, ScanKind::unseen, "nested this deeply")) << show(report);
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
