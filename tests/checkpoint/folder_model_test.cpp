// find_model(): which file of a folder stands for it. Only names count here, so files are empty.
#include "checkpoint/folder_model.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using Names = std::vector<std::string>;

// The file or the shards that are found in a folder of these files; or the error's code.
std::string found(const Names& names) {
  const test::TempDir dir;
  for (const std::string& name : names) test::write_file(dir / name, "");
  const Result<FolderModel> model = find_model(dir.path());
  if (!model) return std::string(name(model.error().code));
  std::string text = model->file.filename().native();
  for (const std::filesystem::path& shard : model->shards) text += "|" + shard.filename().native();
  return text;
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
  EXPECT_EQ(found({"m-00000-of-00002.safetensors", "m-00001-of-00002.safetensors"}),
            "shard_missing");
  EXPECT_EQ(found({"m-1-of-1.safetensors", "n-1-of-1.safetensors"}), "index_ambiguous");
  EXPECT_EQ(found({"m-1-of-1.safetensors", "m-1-of-2.safetensors", "m-2-of-2.safetensors"}),
            "index_ambiguous");
}

TEST(FolderModel, ReadsNamesInEitherCase) {
  EXPECT_EQ(found({"Model.SAFETENSORS"}), "Model.SAFETENSORS");
  EXPECT_EQ(found({"MODEL.SafeTensors.INDEX.json"}), "MODEL.SafeTensors.INDEX.json");
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
