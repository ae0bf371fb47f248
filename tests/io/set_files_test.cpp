// Names of the files of a set, and folders of them.
#include "io/set_files.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cerrno>
#include <filesystem>

#include "io/descriptor.hpp"
#include "io/leftover.hpp"
#include "support/expect_error.hpp"
#include "support/failing_call.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::TempDir;
using test::write_file;

Descriptor open_folder(const std::filesystem::path& path) {
  return Descriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

TEST(SetFileName, HasFiveDigits) {
  EXPECT_EQ(shard_file_name(1, 5), "model-00001-of-00005.safetensors");
  EXPECT_EQ(shard_file_name(10'000, 10'000), "model-10000-of-10000.safetensors");
}

TEST(SetFileName, IsRecognized) {
  for (const char* name : {"model.safetensors", "model.safetensors.index.json",
                           "model-00001-of-00005.safetensors", "model-99999-of-00000.safetensors"})
    EXPECT_TRUE(is_set_file_name(name)) << name;
}

TEST(SetFileName, OfOthersIsNot) {
  for (const char* name :
       {"", "model", "model.bin", "config.json", "Model.safetensors", "model.safetensors ",
        "lora.safetensors", "model-1-of-2.safetensors", "model-00001-of-00005.safetensors.x",
        "model-00001-of-00005", "model-0000a-of-00005.safetensors", "model-00001-of-.safetensors",
        "model-000001-of-000005.safetensors", "model.safetensors.flatbed.json",
        "x/model.safetensors"})
    EXPECT_FALSE(is_set_file_name(name)) << name;
}

TEST(SetFolder, SaysWhatElseIsInIt) {
  const TempDir dir;
  const Descriptor folder = open_folder(dir.path());
  EXPECT_TRUE(look_into_folder(folder.get(), "dir")->empty);
  write_file(dir / "model.safetensors", "");
  write_file(dir / temporary_name("model.safetensors"), "");
  const Result<SetFolder> set = look_into_folder(folder.get(), "dir");
  ASSERT_OK(set);
  EXPECT_FALSE(set->empty);
  EXPECT_EQ(set->other, "");
  write_file(dir / "config.json", "{}");
  EXPECT_EQ(look_into_folder(folder.get(), "dir")->other, "config.json");
}

// What was not seen may be anything, so it is neither empty nor a set.
TEST(SetFolder, ThatCannotBeReadIsAnError) {
  const TempDir dir;
  const Descriptor folder = open_folder(dir.path());
  EXPECT_TRUE(test::passes_where_call_fails(SYS_getdents64, EIO, [&] {
    const Result<SetFolder> found = look_into_folder(folder.get(), "dir");
    return !found && found.error().code == ErrorCode::io_error;
  }));
}

TEST(SetFolder, ALinkOrAFolderOfSuchANameIsSomethingElse) {
  for (const bool link : {false, true}) {
    const TempDir dir;
    if (link) {
      std::filesystem::create_symlink("elsewhere", dir / "model.safetensors");
    } else {
      std::filesystem::create_directory(dir / "model.safetensors");
    }
    const Descriptor folder = open_folder(dir.path());
    EXPECT_EQ(look_into_folder(folder.get(), "dir")->other, "model.safetensors");
  }
}

TEST(SetFolder, IsRemovedWithItsFiles) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "set");
  for (const char* name : {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                           "model.safetensors.index.json"})
    write_file(dir / "set" / name, name);
  const Descriptor parent = open_folder(dir.path());
  EXPECT_TRUE(remove_set_folder(parent.get(), "set", open_folder(dir / "set").get()));
  EXPECT_TRUE(dir.names().empty());
}

TEST(SetFolder, WithAnythingElseStaysWhole) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "set");
  write_file(dir / "set" / "model.safetensors", "");
  write_file(dir / "set" / "notes.txt", "mine");
  const Descriptor parent = open_folder(dir.path());
  EXPECT_FALSE(remove_set_folder(parent.get(), "set", open_folder(dir / "set").get()));
  EXPECT_TRUE(std::filesystem::exists(dir / "set" / "model.safetensors"));
  EXPECT_TRUE(std::filesystem::exists(dir / "set" / "notes.txt"));
}

}  // namespace
}  // namespace flatbed
