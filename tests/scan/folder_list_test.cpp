// Folders: what a scan of one says about everything in it.
#include "scan/folder_list.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>

#include "support/expect_error.hpp"
#include "support/memory_folder.hpp"
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

// "a.bin plain, sub unknown -": "-" stands for what was not scanned.
string table(const ScanReport& report) {
  string text;
  for (const ScannedFile& file : report.files) {
    if (!text.empty()) text += ", ";
    text += file.path.filename().native() + " " + string(name(file.verdict));
    if (!file.scanned) text += " -";
  }
  return text;
}

TEST(FolderScan, NamesEveryFileOfAFolder) {
  const TempDir folder;
  write_file(folder / "config.json", "{}");
  write_file(folder / "model.bin", torch_zip());
  write_file(folder / "modeling.py", "import os\n");
  const Result<ScanReport> report = scan(folder.path());
  ASSERT_OK(report);
  EXPECT_EQ(table(*report), "config.json plain, model.bin plain, modeling.py unknown");
  EXPECT_EQ(report->verdict, kUnknown);
}

TEST(FolderScan, SaysThatItLeavesFoldersOutUnlessItIsRecursive) {
  const TempDir folder;
  std::filesystem::create_directories(folder / "sub/deep");
  write_file(folder / "a.bin", torch_zip());
  write_file(folder / "sub/deep/b.bin", torch_zip({.pickle = payload()}));
  const Result<ScanReport> flat = scan(folder.path());
  ASSERT_OK(flat);
  EXPECT_EQ(table(*flat), "a.bin plain, sub unknown -");
  EXPECT_EQ(flat->verdict, kUnknown);
  EXPECT_NE(test::find(*flat, ScanKind::unseen), nullptr) << show(*flat);
  const Result<ScanReport> deep = scan(folder.path(), {.recursive = true});
  ASSERT_OK(deep);
  EXPECT_EQ(table(*deep), "a.bin plain, b.bin dangerous");
}

TEST(FolderScan, FollowsLinksToFilesAlone) {
  const TempDir folder, other;
  write_file(other / "blob", torch_zip());
  std::filesystem::create_symlink(other / "blob", folder / "a.bin");
  std::filesystem::create_symlink(folder.path(), folder / "b");
  std::filesystem::create_symlink("nowhere", folder / "c");
  ASSERT_EQ(mkfifo((folder / "d").c_str(), 0600), 0);
  const Result<ScanReport> report = scan(folder.path(), {.recursive = true});
  ASSERT_OK(report);
  EXPECT_EQ(table(*report), "a.bin plain, b unknown -, c unknown -, d unknown -");
}

TEST(FolderScan, PutsAnIndexAndItsFilesIntoOneTable) {
  const TempDir folder;
  std::filesystem::create_directory(folder / "sub");
  write_file(folder / "a.bin", torch_zip());
  write_file(folder / "sub/b.bin", torch_zip());
  write_file(folder / "m.index.fp16.json", R"({"weight_map":{"v":"a.bin","w":"sub/b.bin"}})");
  const Result<ScanReport> report = scan(folder.path());
  ASSERT_OK(report);
  EXPECT_EQ(table(*report), "a.bin plain, m.index.fp16.json plain, sub unknown -, b.bin plain");
}

TEST(FolderList, CountsFoldersAmongTheEntries) {
  const TempDir folder;
  for (const char* name : {"a/b/c", "d"}) std::filesystem::create_directories(folder / name);
  write_file(folder / "a/x", "x");
  const auto listed = [&](std::size_t limit) {
    return list_folder(folder.path(), true, limit)->back().what;
  };
  EXPECT_EQ(list_folder(folder.path(), true, 5)->size(), 1u);
  EXPECT_EQ(listed(5), "");
  EXPECT_EQ(list_folder(folder.path(), true, 1)->front().what, "a folder with more than 1 entry");
}

TEST(FolderScan, LimitsTheFindingsOfAllFilesTogether) {
  const TempDir folder;
  string body;
  for (int i = 0; i < 6'000; ++i)
    body += test::pickle::global("package", "name" + std::to_string(i)) + "0";
  for (const char* name : {"a.pkl", "b.pkl"})
    write_file(folder / name, test::pickle::finish(body + "N"));
  write_file(folder / "c.pkl", payload());
  const Result<ScanReport> report = scan(folder.path());
  ASSERT_OK(report);
  EXPECT_EQ(report->findings.size(), 10'000u + 1);
  EXPECT_FALSE(report->findings_complete);
  EXPECT_EQ(report->findings[0].severity, kDangerous);
}

TEST(FolderScan, RefusesAFolderWithNothingInIt) {
  const TempDir folder;
  EXPECT_ERROR(scan(folder.path()), file_not_found);
  std::filesystem::create_directory(folder / "sub");
  EXPECT_EQ(scan(folder.path())->verdict, kUnknown);
  EXPECT_ERROR(scan(folder.path(), {.recursive = true}), file_not_found);
  write_file(folder / "README.md", "text");
  EXPECT_EQ(scan(folder.path(), {.recursive = true})->verdict, kPlain);
  EXPECT_NE(scan(folder.path())->verdict, kDangerous);
}

TEST(SourceFolderScan, HasEachFileOnceThoughAnIndexNamesIt) {
  test::MemoryFolder folder;
  folder.files = {{"a.bin", torch_zip()},
                  {"b.json", "{}"},
                  {"m.index.fp16.json", R"({"weight_map":{"v":"a.bin","w":"sub/c.bin"}})"},
                  {"z.json", "{}"},
                  {"sub/c.bin", torch_zip()}};
  const Result<ScanReport> report = scan(folder, "");
  ASSERT_OK(report);
  EXPECT_EQ(table(*report),
            "a.bin plain, b.json plain, m.index.fp16.json plain, c.bin plain, z.json plain");
  EXPECT_EQ(report->verdict, kPlain);
}

TEST(SourceFolderScan, SaysThatItLeavesFoldersOut) {
  test::MemoryFolder folder;
  folder.files = {{"a.bin", torch_zip()}};
  folder.below = {"sub"};
  for (const bool recursive : {false, true}) {
    const Result<ScanReport> report = scan(folder, "", {.recursive = recursive});
    ASSERT_OK(report);
    EXPECT_EQ(table(*report), "a.bin plain, sub unknown -");
    EXPECT_EQ(report->verdict, kUnknown);
  }
}

TEST(SourceFolderScan, IsNotPlainWhereMoreFilesMayBeThere) {
  test::MemoryFolder folder;
  folder.files = {{"a.bin", torch_zip()}};
  folder.listed_whole = false;
  const Result<ScanReport> report = scan(folder, "");
  ASSERT_OK(report);
  EXPECT_EQ(report->verdict, kUnknown);
  ASSERT_EQ(report->files.size(), 2u);
  EXPECT_FALSE(report->files[1].scanned);
  EXPECT_EQ(scan(folder, "a.bin")->verdict, kPlain);
}

TEST(SourceFolderScan, RefusesAFolderWithNothingInIt) {
  test::MemoryFolder folder;
  EXPECT_ERROR(scan(folder, ""), file_not_found);
  folder.below = {"sub"};
  EXPECT_EQ(scan(folder, "")->verdict, kUnknown);
}

TEST(SourceFolderScan, GoesOnAfterAFileThatCannotBeOpened) {
  test::MemoryFolder folder;
  folder.files = {{"a.bin", torch_zip()}, {"b.bin", torch_zip()}, {"c.bin", torch_zip()}};
  folder.errors.emplace("b.bin", Error{ErrorCode::permission_denied, "no"});
  const Result<ScanReport> report = scan(folder, "");
  ASSERT_OK(report);
  EXPECT_EQ(table(*report), "a.bin plain, b.bin unknown -, c.bin plain");
}

}  // namespace
}  // namespace flatbed
