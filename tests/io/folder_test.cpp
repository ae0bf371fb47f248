// Folder: what is moved and removed, and what never is.
#include "io/folder.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

#include "support/expect_error.hpp"
#include "support/fault_io.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

namespace fs = std::filesystem;
using test::FaultIo;
using test::IoCall;
using test::read_file;
using test::TempDir;
using test::write_file;
using Names = std::vector<std::string>;

Folder open(const fs::path& path) {
  Result<Folder> folder = Folder::open(path);
  EXPECT_OK(folder);
  return *std::move(folder);
}

TEST(Folder, IsMadeWhereItIsNotThere) {
  const TempDir dir;
  EXPECT_ERROR(Folder::open(dir / "new"), file_not_found);
  ASSERT_OK(Folder::make(dir / "new"));
  ASSERT_OK(Folder::make(dir / "new"));
  ASSERT_OK(open(dir.path()).make_inside("inner"));
  ASSERT_OK(open(dir.path()).make_inside("inner"));
  EXPECT_EQ(dir.names(), (Names{"inner", "new"}));
  EXPECT_ERROR(Folder::make(dir / "a" / "b"), file_not_found);
}

TEST(Folder, IsNeitherAFileNorInsideALink) {
  const TempDir dir;
  write_file(dir / "file", "");
  fs::create_directory(dir / "folder");
  fs::create_directory_symlink("folder", dir / "link");
  EXPECT_ERROR(Folder::open(dir / "file"), not_a_regular_file);
  EXPECT_ERROR(Folder::make(dir / "file"), not_a_regular_file);
  EXPECT_ERROR(open(dir.path()).make_inside("file"), not_a_regular_file);
  EXPECT_ERROR(open(dir.path()).make_inside("link"), not_a_regular_file);
}

TEST(Folder, HasOneLock) {
  const TempDir dir;
  Folder second = open(dir.path());
  {
    Folder first = open(dir.path());
    EXPECT_TRUE(first.lock());
    EXPECT_TRUE(first.lock());
    EXPECT_FALSE(second.lock());
  }
  EXPECT_TRUE(second.lock());
}

TEST(Folder, SyncSaysWhatFails) {
  const TempDir dir;
  const Folder folder = open(dir.path());
  EXPECT_OK(folder.sync());
  EXPECT_OK(folder.sync_above());
  FaultIo faults;
  faults.fail(IoCall::sync, test::kEveryCall, EIO);
  EXPECT_ERROR(folder.sync(), io_error);
  EXPECT_ERROR(folder.sync_above(), io_error);
}

TEST(Folder, MovesFilesAndFoldersAndReplacesNothing) {
  const TempDir dir;
  const Folder folder = open(dir.path());
  const Result<Folder> inner = folder.make_inside("inner");
  write_file(dir / "a", "a");
  write_file(dir / "b", "b");
  fs::create_directory(dir / "c");
  ASSERT_OK(folder.move("a", *inner, "x"));
  EXPECT_ERROR(folder.move("b", *inner, "x"), file_exists);
  EXPECT_ERROR(folder.move("c", *inner, "x"), file_exists);
  ASSERT_OK(folder.move("c", *inner, "y"));
  EXPECT_ERROR(folder.move("none", *inner, "z"), file_not_found);
  EXPECT_EQ(read_file(dir / "inner" / "x"), "a");
  EXPECT_EQ(dir.names(), (Names{"b", "inner"}));
}

TEST(Folder, RemovesSetsAndNothingElse) {
  const TempDir dir;
  const Folder folder = open(dir.path());
  fs::create_directory(dir / "set");
  write_file(dir / "set" / "model.safetensors", "1");
  fs::create_directory(dir / "more");
  write_file(dir / "more" / "model.safetensors", "1");
  write_file(dir / "more" / "notes.txt", "mine");
  fs::create_directory_symlink("more", dir / "link");
  ASSERT_OK(folder.remove_set("set"));
  EXPECT_ERROR(folder.remove_set("more"), file_exists);
  EXPECT_ERROR(folder.remove_set("link"), not_a_regular_file);
  EXPECT_ERROR(folder.remove_set("none"), file_not_found);
  EXPECT_EQ(dir.names(), (Names{"link", "more"}));
  EXPECT_EQ(read_file(dir / "more" / "model.safetensors"), "1");
  ASSERT_OK(folder.remove_file("link"));
  EXPECT_ERROR(folder.remove_file("link"), file_not_found);
}

}  // namespace
}  // namespace flatbed
