// Indexes: the content decides, and every file that one names is scanned.
#include "scan/index_scan.hpp"

#include <gtest/gtest.h>

#include <string>

#include "support/expect_error.hpp"
#include "support/scan_bytes.hpp"
#include "support/scan_payload.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

using std::string;
using test::payload;
using test::show;
using test::TempDir;
using test::torch_zip;
using test::write_file;

constexpr auto kPlain = ScanVerdict::plain;
constexpr auto kUnknown = ScanVerdict::unknown;
constexpr auto kDangerous = ScanVerdict::dangerous;

TEST(IndexScan, GoesByTheContentAndNotByTheName) {
  const TempDir folder;
  write_file(folder / "shard", torch_zip({.pickle = payload()}));
  for (const char* name : {"m.bin.index.json", "m.bin.index.fp16.json", "myindex.json", "x"}) {
    write_file(folder / name, R"({"weight_map":{"w":"shard"}})");
    const Result<ScanReport> report = scan(folder / name);
    ASSERT_OK(report);
    EXPECT_EQ(report->verdict, kDangerous) << name;
    EXPECT_EQ(report->files.size(), 1u);
  }
  write_file(folder / "x", "\xEF\xBB\xBF {\"weight\\u005fmap\":{\"w\":\"shard\"}}");
  EXPECT_EQ(scan(folder / "x")->verdict, kDangerous);
  write_file(folder / "x", R"({"\u0077eight\u005Fmap":{"w":"shard"}})");
  EXPECT_EQ(scan(folder / "x")->verdict, kDangerous);
  // Lines of JSON, which are no index.
  write_file(folder / "x", "{\"a\":\"\\u00e9\"}\n{\"\\u0077\":1}\n");
  EXPECT_EQ(scan(folder / "x")->verdict, kPlain);
}

TEST(IndexScan, FollowsNamesBelowItsFolderAndNoOthers) {
  const TempDir folder;
  std::filesystem::create_directory(folder / "sub");
  write_file(folder / "sub/a.bin", torch_zip({.pickle = payload()}));
  write_file(folder / "i.json", R"({"weight_map":{"w":"sub/a.bin"}})");
  EXPECT_EQ(scan(folder / "i.json")->verdict, kDangerous);
  EXPECT_EQ(scan(folder.path())->verdict, kDangerous);
  for (const char* name : {"../a.bin", "/etc/passwd", "sub/../../a.bin", ""}) {
    write_file(folder / "i.json", string(R"({"weight_map":{"w":")") + name + "\"}}");
    const Result<ScanReport> report = scan(folder / "i.json");
    ASSERT_OK(report);
    EXPECT_EQ(report->verdict, kUnknown) << name;
    EXPECT_FALSE(report->files[0].scanned);
  }
}

TEST(IndexScan, GoesOnAfterAFileThatItCannotRead) {
  const TempDir folder;
  std::filesystem::create_directory(folder / "a.bin");
  write_file(folder / "b.bin", torch_zip({.pickle = payload()}));
  write_file(folder / "i.json", R"({"weight_map":{"v":"a.bin","w":"b.bin"}})");
  const Result<ScanReport> report = scan(folder / "i.json");
  ASSERT_OK(report);
  EXPECT_EQ(report->verdict, kDangerous);
  ASSERT_EQ(report->files.size(), 2u);
  EXPECT_FALSE(report->files[0].scanned);
}

TEST(IndexScan, ReadsIndexesUpToALimit) {
  const TempDir folder;
  const auto index_of = [](int names) {
    string text;
    for (int i = 0; i < names; ++i)
      text += "\"" + std::to_string(i) + "\":\"" + std::to_string(i) + "\",";
    return "{\"weight_map\":{" + text + "\"x\":\"0\"}}";
  };
  write_file(folder / "i.json", index_of(10'000));
  EXPECT_ERROR(scan(folder / "i.json"), shard_missing);
  write_file(folder / "i.json", index_of(10'001));
  const Result<ScanReport> many = scan(folder / "i.json");
  ASSERT_OK(many);
  EXPECT_TRUE(test::says(*many, ScanKind::unseen, "more than 10000 files")) << show(*many);
  std::filesystem::resize_file(folder / "i.json", 250'000'001);
  const Result<ScanReport> large = scan(folder / "i.json");
  ASSERT_OK(large);
  EXPECT_TRUE(test::says(*large, ScanKind::unseen, "the limit is 250000000")) << show(*large);
}

TEST(IndexScan, SaysWhatItCannotFollow) {
  const TempDir folder;
  write_file(folder / "i.json", R"({"weight_map":{"w":"none.bin"}})");
  EXPECT_ERROR(scan(folder / "i.json"), shard_missing);
  const Result<ScanReport> all = scan(folder.path());
  ASSERT_OK(all);
  EXPECT_EQ(all->verdict, kUnknown) << show(*all);
  write_file(folder / "i.json", R"({"weight_map":{"w":3}})");
  EXPECT_EQ(scan(folder / "i.json")->verdict, kUnknown);
  write_file(folder / "i.json", R"({"weight_map":{"w":"a.bin")");
  EXPECT_EQ(scan(folder / "i.json")->verdict, kUnknown);
  write_file(folder / "i.json", R"({"weights":{"w":"a.bin"}})");
  EXPECT_EQ(scan(folder / "i.json")->verdict, kPlain);
  // Within another file its files are not at hand.
  EXPECT_EQ(test::verdict_of(test::packed(R"({"weight_map":{"w":"a.bin"}})")), kUnknown);
}

}  // namespace
}  // namespace flatbed
