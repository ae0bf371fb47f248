// find_model(): which file of a folder stands for it. Only names count here, so files are empty.
#include "checkpoint/folder_model.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "base/str_cat.hpp"
#include "support/cpu_time.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using Names = std::vector<std::string>;

// The file or the shards that are found in a folder; or the error's code.
std::string found_in(const std::filesystem::path& directory) {
  const Result<FolderModel> model = find_model(directory);
  if (!model) return std::string(name(model.error().code));
  std::string text = model->file.filename().native();
  for (const std::filesystem::path& shard : model->shards) text += "|" + shard.filename().native();
  return text;
}

// The same of a folder of these files.
std::string found(const Names& names) {
  const test::TempDir dir;
  for (const std::string& name : names) test::write_file(dir / name, "");
  return found_in(dir.path());
}

// The same of a folder in which all are one file, which takes less time.
std::string found_of_many(const Names& names) {
  const test::TempDir dir;
  test::write_file(dir / ".file", "");
  for (const std::string& name : names)
    std::filesystem::create_hard_link(dir / ".file", dir / name);
  return found_in(dir.path());
}

TEST(FolderModel, PrefersAnIndexOfSafetensorsThenAFile) {
  EXPECT_EQ(found({"model.safetensors.index.json", "model.safetensors"}),
            "model.safetensors.index.json");
  EXPECT_EQ(found({"model.safetensors", "pytorch_model.bin.index.json"}), "model.safetensors");
  EXPECT_EQ(found({"model.safetensors", "model.safetensors.index.fp16.json"}), "model.safetensors");
  EXPECT_EQ(found({"model.safetensors.index.fp16.json", "model.fp16-1-of-1.safetensors"}),
            "model.safetensors.index.fp16.json");
  EXPECT_EQ(found({"pytorch_model.bin.index.json", "pytorch_model.bin"}),
            "pytorch_model.bin.index.json");
  EXPECT_EQ(found({"pytorch_model.bin.index.fp16.json"}), "pytorch_model.bin.index.fp16.json");
}

TEST(FolderModel, IsTheModelBesideWhatTrainingLeaves) {
  EXPECT_EQ(found({"pytorch_model.bin", "config.json", "training_args.bin", "optimizer.pt"}),
            "pytorch_model.bin");
  EXPECT_EQ(found({"weights.bin"}), "weights.bin");
  EXPECT_EQ(found({"model.pth", "notes.txt"}), "model.pth");
}

TEST(FolderModel, PrefersAFileToItsVariants) {
  EXPECT_EQ(found({"model.fp16.safetensors", "model.safetensors"}), "model.safetensors");
  EXPECT_EQ(found({"model.fp16.safetensors"}), "model.fp16.safetensors");
  EXPECT_EQ(found({"model.fp16.safetensors", "model.int8.safetensors"}), "index_ambiguous");
}

TEST(FolderModel, TakesShardsWithoutAnIndexIfTheyAreComplete) {
  EXPECT_EQ(found({"m-00002-of-00002.safetensors", "m-00001-of-00002.safetensors"}),
            "|m-00001-of-00002.safetensors|m-00002-of-00002.safetensors");
  EXPECT_EQ(found({"m-1-of-2.bin", "m-2-of-2.bin"}), "|m-1-of-2.bin|m-2-of-2.bin");
  EXPECT_EQ(found({"m-00001-of-00002.safetensors"}), "shard_missing");
  EXPECT_EQ(found({"m-1-of-1.safetensors", "n-1-of-1.safetensors"}), "index_ambiguous");
  EXPECT_EQ(found({"m-1-of-1.safetensors", "m-1-of-2.safetensors", "m-2-of-2.safetensors"}),
            "index_ambiguous");
}

TEST(FolderModel, OrdersShardsByTheBytesOfTheirNames) {
  Names names;
  std::string expected;
  for (const char* number : {"1", "10", "2", "3", "4", "5", "6", "7", "8", "9"}) {
    names.insert(names.begin(), str_cat("m-", number, "-of-10.safetensors"));
    expected += str_cat("|m-", number, "-of-10.safetensors");
  }
  EXPECT_EQ(found(names), expected);
  EXPECT_EQ(found({"m-1-of-2.bin", "m-02-of-2.bin"}), "|m-02-of-2.bin|m-1-of-2.bin");
}

TEST(FolderModel, RefusesTwoShardsOfOneNumber) {
  EXPECT_EQ(found({"m-1-of-2.bin", "m-01-of-2.bin", "m-2-of-2.bin"}), "index_ambiguous");
  EXPECT_EQ(found({"m-1-of-2.bin", "M-1-of-2.bin", "m-2-of-2.bin"}), "index_ambiguous");
  EXPECT_EQ(found({"m-1-of-2.bin", "m-2-of-2.bin"}), "|m-1-of-2.bin|m-2-of-2.bin");
}

TEST(FolderModel, NamesBothShardsOfOneNumber) {
  const test::TempDir dir;
  for (const char* name : {"m-1-of-1.bin", "m-01-of-1.bin"}) test::write_file(dir / name, "");
  const Result<FolderModel> model = find_model(dir.path());
  EXPECT_ERROR(model, index_ambiguous);
  EXPECT_TRUE(model.error().message.ends_with(
      "two shards have the number 1: 'm-01-of-1.bin' and 'm-1-of-1.bin'"))
      << model.error().message;
}

TEST(FolderModel, RefusesShardsOfNumbersOutsideTheSet) {
  for (const char* name :
       {"m-0-of-2.bin", "m-3-of-2.bin", "m-4294967297-of-2.bin", "m-18446744073709551617-of-2.bin"})
    EXPECT_EQ(found({"m-1-of-2.bin", "m-2-of-2.bin", name}), "index_ambiguous") << name;
  EXPECT_EQ(found({"m-0-of-0.bin"}), "index_ambiguous");
}

TEST(FolderModel, NeverTakesAShardForTheWholeModel) {
  for (const char* count : {"20000", "4294967296", "18446744073709551617"})
    EXPECT_EQ(found({str_cat("m-1-of-", count, ".safetensors")}), "shard_missing") << count;
  EXPECT_EQ(found({"m-1-of-20000.safetensors", "model.safetensors"}), "model.safetensors");
  for (const char* name :
       {"m-x-of-2.bin", "m-1-of-2x.bin", "m-1-of-.bin", "m--of-2.bin", "-of-.bin"})
    EXPECT_EQ(found({name}), name);
  EXPECT_EQ(found({"m-1-of-2.x-of-3.bin"}), "shard_missing");
}

TEST(FolderModel, HasAtMostTenThousandShards) {
  const auto set_of = [](int count) {
    Names names;
    for (int i = 1; i <= count; ++i) names.push_back(str_cat("m-", i, "-of-", count, ".bin"));
    return found_of_many(names);
  };
  EXPECT_TRUE(set_of(10'000).starts_with("|m-1-of-10000.bin|m-10-of-10000.bin|"));
  EXPECT_EQ(set_of(10'001), "limit_exceeded");
}

// A search through all names for each of them would take a minute.
TEST(FolderModel, FindsAFileAmongManyVariants) {
  Names names = {"model.safetensors"};
  for (int i = 0; i < 20'000; ++i) names.push_back(str_cat("model.v", i, ".safetensors"));
  const auto begin = test::cpu_time();
  EXPECT_EQ(found_of_many(names), "model.safetensors");
  EXPECT_LT(test::cpu_time() - begin, std::chrono::seconds(20));
}

TEST(FolderModel, ReadsNamesInEitherCase) {
  EXPECT_EQ(found({"Model.SAFETENSORS"}), "Model.SAFETENSORS");
  EXPECT_EQ(found({"MODEL.SafeTensors.INDEX.json"}), "MODEL.SafeTensors.INDEX.json");
}

TEST(FolderModel, CountsOnlyLettersAndDigitsOfAscii) {
  EXPECT_EQ(found({"\u212A-1-of-2.safetensors", "k-2-of-2.safetensors"}), "index_ambiguous");
  EXPECT_EQ(found({"K-1-of-2.safetensors", "k-2-of-2.safetensors"}),
            "|K-1-of-2.safetensors|k-2-of-2.safetensors");
  EXPECT_EQ(found({"m-\uFF11-of-1.safetensors"}), "m-\uFF11-of-1.safetensors");
  EXPECT_EQ(found({"m.\u017Fafetensors"}), "index_ambiguous");
  EXPECT_EQ(found({"m.safetensors\n"}), "index_ambiguous");
  EXPECT_EQ(found({"m.safetensors", "m.\n.safetensors"}), "m.safetensors");
  EXPECT_EQ(found({"a\nb-1-of-1.safetensors"}), "|a\nb-1-of-1.safetensors");
  EXPECT_EQ(found({"m.safetensors.index.a.b.json", "m-1-of-2.safetensors"}),
            "m.safetensors.index.a.b.json");
  EXPECT_EQ(found({"m.safetensors.index.ajson"}), "index_ambiguous");
}

TEST(FolderModel, LeavesOutFoldersAndHiddenFiles) {
  const test::TempDir dir;
  std::filesystem::create_directories(dir / "a.safetensors");
  test::write_file(dir / ".b.safetensors", "");
  EXPECT_ERROR(find_model(dir.path()), index_ambiguous);
  test::write_file(dir / "c.safetensors", "");
  ASSERT_OK(find_model(dir.path()));
  EXPECT_EQ(find_model(dir.path())->file, dir / "c.safetensors");
}

TEST(FolderModel, TakesALinkToNothingSoThatOpeningNamesIt) {
  const test::TempDir dir;
  std::filesystem::create_symlink("nothing", dir / "model.safetensors");
  ASSERT_OK(find_model(dir.path()));
  EXPECT_EQ(find_model(dir.path())->file, dir / "model.safetensors");
}

TEST(FolderModel, TakesALoopOfLinksSoThatOpeningNamesIt) {
  const test::TempDir dir;
  std::filesystem::create_symlink("model.safetensors.index.json",
                                  dir / "model.safetensors.index.json");
  test::write_file(dir / "model.safetensors", "");
  ASSERT_OK(find_model(dir.path()));
  EXPECT_EQ(find_model(dir.path())->file, dir / "model.safetensors.index.json");
}

TEST(FolderModel, SaysWhyAFolderCannotBeRead) {
  const test::TempDir dir;
  test::write_file(dir / "file", "");
  EXPECT_ERROR(find_model(dir / "nothing"), file_not_found);
  EXPECT_ERROR(find_model(dir / "file"), file_not_found);
  if (::geteuid() == 0) GTEST_SKIP() << "root may read everything";
  std::filesystem::permissions(dir.path(), std::filesystem::perms::none);
  EXPECT_ERROR(find_model(dir.path()), permission_denied);
  std::filesystem::permissions(dir.path(), std::filesystem::perms::owner_all);
}

TEST(FolderModel, NamesTheCandidates) {
  const test::TempDir dir;
  for (const char* name : {"b.bin", "a.bin"}) test::write_file(dir / name, "");
  const Result<FolderModel> model = find_model(dir.path());
  EXPECT_ERROR(model, index_ambiguous);
  EXPECT_TRUE(model.error().message.ends_with(
      ": found 2 models, expected one: 'a.bin', 'b.bin'; name the one to open"))
      << model.error().message;
}

}  // namespace
}  // namespace flatbed
