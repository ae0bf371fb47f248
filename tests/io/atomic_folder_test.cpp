// AtomicFolder: what replaces what, what is refused, and what is left.
#include "io/atomic_folder.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "io/descriptor.hpp"
#include "io/leftover.hpp"
#include "support/expect_error.hpp"
#include "support/failing_call.hpp"
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

constexpr const char* kFile = "model.safetensors";

// Writes a folder with one file.
Result<FolderReport> put(const fs::path& target, const char* text,
                         const AtomicFolderOptions& options = {}) {
  FLATBED_ASSIGN(AtomicFolder folder, AtomicFolder::create(target, options));
  write_file(folder.path() / kFile, text);
  return folder.commit();
}

TEST(AtomicFolder, HasNoNameBeforeCommit) {
  const TempDir dir;
  Result<AtomicFolder> folder = AtomicFolder::create(dir / "set", {});
  ASSERT_OK(folder);
  write_file(folder->path() / kFile, "new");
  EXPECT_FALSE(fs::exists(dir / "set"));
  ASSERT_OK(folder->commit());
  EXPECT_EQ(dir.names(), Names{"set"});
  EXPECT_EQ(read_file(dir / "set" / kFile), "new");
}

TEST(AtomicFolder, IsRemovedWithoutCommit) {
  const TempDir dir;
  {
    Result<AtomicFolder> folder = AtomicFolder::create(dir / "set", {});
    ASSERT_OK(folder);
    write_file(folder->path() / kFile, "new");
  }
  EXPECT_EQ(dir.names(), Names{});
}

TEST(AtomicFolder, TakesThePlaceOfAnEmptyFolderAndItsPermissions) {
  const TempDir dir;
  fs::create_directory(dir / "set");
  ASSERT_EQ(::chmod((dir / "set").c_str(), 0750), 0);
  ASSERT_OK(put((dir / "set").native() + "/", "new"));
  EXPECT_EQ(read_file(dir / "set" / kFile), "new");
  struct stat status = {};
  ASSERT_EQ(::stat((dir / "set").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0750u);
}

TEST(AtomicFolder, ReplacesAFolderOnlyIfAsked) {
  const TempDir dir;
  ASSERT_OK(put(dir / "set", "old"));
  EXPECT_ERROR(put(dir / "set", "new"), file_exists);
  EXPECT_EQ(read_file(dir / "set" / kFile), "old");
  const Result<FolderReport> report = put(dir / "set", "new", {.replace = true});
  ASSERT_OK(report);
  EXPECT_TRUE(report->old.empty());
  EXPECT_EQ(read_file(dir / "set" / kFile), "new");
  EXPECT_EQ(dir.names(), Names{"set"});
}

TEST(AtomicFolder, AFolderWithOtherFilesIsRefused) {
  const TempDir dir;
  ASSERT_OK(put(dir / "set", "old"));
  write_file(dir / "set" / "config.json", "{}");
  const Result<FolderReport> report = put(dir / "set", "new", {.replace = true});
  EXPECT_ERROR(report, file_exists);
  EXPECT_NE(report.error().message.find("holds 'config.json'"), std::string::npos);
  EXPECT_EQ(read_file(dir / "set" / kFile), "old");
  EXPECT_EQ(dir.names(), Names{"set"});
}

TEST(AtomicFolder, AFileOrALinkIsRefused) {
  const TempDir dir;
  write_file(dir / "file", "mine");
  fs::create_directory(dir / "folder");
  fs::create_symlink("folder", dir / "link");
  fs::create_symlink("nowhere", dir / "dangling");
  for (const char* name : {"file", "link", "dangling"})
    EXPECT_ERROR(put(dir / name, "new", {.replace = true}), file_exists) << name;
  EXPECT_EQ(dir.names(), (Names{"dangling", "file", "folder", "link"}));
}

TEST(AtomicFolder, WhatIsNoNameIsRefused) {
  const TempDir dir;
  for (const char* name : {"", ".", "..", "/"})
    EXPECT_ERROR(AtomicFolder::create(name, {}), invalid_argument) << name;
  EXPECT_ERROR(AtomicFolder::create(dir / "no/set", {}), file_not_found);
}

TEST(AtomicFolder, APlaceWhereAFileSystemIsMountedIsRefused) {
  const Result<AtomicFolder> folder = AtomicFolder::create("/proc", {.replace = true});
  EXPECT_ERROR(folder, unsupported_filesystem);
}

TEST(AtomicFolder, WhatAppearsMeanwhileStays) {
  const TempDir dir;
  Result<AtomicFolder> folder = AtomicFolder::create(dir / "set", {});
  ASSERT_OK(folder);
  ASSERT_OK(put(dir / "set", "other"));
  EXPECT_ERROR(folder->commit(), file_exists);
  EXPECT_EQ(read_file(dir / "set" / kFile), "other");
}

TEST(AtomicFolder, AnotherFolderThanTheOneThatWasSeenIsNotReplaced) {
  const TempDir dir;
  ASSERT_OK(put(dir / "set", "old"));
  Result<AtomicFolder> folder = AtomicFolder::create(dir / "set", {.replace = true});
  ASSERT_OK(folder);
  fs::rename(dir / "set", dir / "kept");
  ASSERT_OK(put(dir / "set", "other"));
  EXPECT_ERROR(folder->commit(), file_exists);
  EXPECT_EQ(read_file(dir / "set" / kFile), "other");
  EXPECT_EQ(read_file(dir / "kept" / kFile), "old");
}

TEST(AtomicFolder, AnOldFolderThatGotAFileMeanwhileIsKept) {
  const TempDir dir;
  ASSERT_OK(put(dir / "set", "old"));
  Result<AtomicFolder> folder = AtomicFolder::create(dir / "set", {.replace = true});
  ASSERT_OK(folder);
  write_file(folder->path() / kFile, "new");
  write_file(dir / "set" / "notes.txt", "mine");
  const Result<FolderReport> report = folder->commit();
  ASSERT_OK(report);
  EXPECT_EQ(read_file(dir / "set" / kFile), "new");
  EXPECT_EQ(read_file(report->old / "notes.txt"), "mine");
  EXPECT_EQ(read_file(report->old / kFile), "old");
}

// As on a file system without the flags of renameat2().
bool without_swaps(const std::function<bool()>& body) {
  return test::passes_where_call_fails(SYS_renameat2, EINVAL, body);
}

TEST(AtomicFolder, WhereFoldersCannotBeSwappedOnlyNewOnesAreWritten) {
  const TempDir dir;
  ASSERT_OK(put(dir / "old", "old"));
  EXPECT_TRUE(without_swaps([&] { return put(dir / "new", "new").has_value(); }));
  EXPECT_TRUE(without_swaps([&] {
    const auto folder = AtomicFolder::create(dir / "old", {.replace = true});
    return !folder && folder.error().code == ErrorCode::unsupported_filesystem;
  }));
  EXPECT_EQ(read_file(dir / "old" / kFile), "old");
}

TEST(AtomicFolder, MoreThanTheFileSystemHasFreeIsRefused) {
  const TempDir dir;
  EXPECT_ERROR(
      AtomicFolder::create(dir / "set", {.nbytes = std::numeric_limits<std::uint64_t>::max()}),
      no_space);
  EXPECT_EQ(dir.names(), Names{});
}

TEST(AtomicFolder, AFailedSyncLeavesTheOldFolder) {
  const TempDir dir;
  ASSERT_OK(put(dir / "set", "old"));
  FaultIo faults;
  faults.fail(IoCall::sync, test::nth(1), EIO);
  EXPECT_ERROR(put(dir / "set", "new", {.replace = true}), io_error);
  EXPECT_EQ(read_file(dir / "set" / kFile), "old");
  EXPECT_EQ(dir.names(), Names{"set"});
}

// As long as the new names may be lost, the old files are what a power failure brings back.
TEST(AtomicFolder, AFailedSyncOfTheParentKeepsTheOldFolderForTheNextRun) {
  const TempDir dir;
  ASSERT_OK(put(dir / "set", "old"));
  {
    FaultIo faults;
    faults.fail(IoCall::sync, test::nth(2), EIO);
    const Result<FolderReport> report = put(dir / "set", "new", {.replace = true});
    ASSERT_OK(report);
    EXPECT_FALSE(report->commit.durable());
    EXPECT_EQ(read_file(report->old / kFile), "old");
  }
  EXPECT_EQ(read_file(dir / "set" / kFile), "new");
  ASSERT_OK(put(dir / "other", "more"));
  EXPECT_EQ(dir.names(), (Names{"other", "set"}));
}

// Until the parent is synced, a power failure may bring the old folder back.
TEST(AtomicFolder, AnOldFolderIsNoLeftoverBeforeTheParentIsSynced) {
  const TempDir dir;
  ASSERT_OK(put(dir / "set", "old"));
  FaultIo faults;
  faults.before(IoCall::sync, test::nth(2), [&] {
    const Descriptor parent(::open(dir.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    remove_leftovers(parent.get());  // as another process would
  });
  faults.fail(IoCall::sync, test::nth(2), EIO);
  const Result<FolderReport> report = put(dir / "set", "new", {.replace = true});
  ASSERT_OK(report);
  EXPECT_EQ(read_file(report->old / kFile), "old");
  EXPECT_EQ(read_file(dir / "set" / kFile), "new");
}

TEST(AtomicFolder, ALinkWithTheNameOfAShardIsSaidToBeNoFile) {
  const TempDir dir;
  fs::create_directory(dir / "set");
  fs::create_symlink("elsewhere", dir / "set" / kFile);
  const Result<FolderReport> report = put(dir / "set", "new", {.replace = true});
  EXPECT_ERROR(report, file_exists);
  EXPECT_NE(report.error().message.find("'model.safetensors', which is no regular file"),
            std::string::npos);
}

TEST(AtomicFolder, RemovesTheFoldersThatKilledProcessesLeft) {
  const TempDir dir;
  const std::string left = temporary_name("a");
  const std::string with_more = temporary_name("b");
  for (const std::string& name : {left, with_more}) {
    fs::create_directory(dir / name);
    write_file(dir / name / kFile, "half");
    write_file(dir / name / temporary_name(kFile), "half");
  }
  write_file(dir / with_more / "notes.txt", "mine");
  const Result<AtomicFolder> other = AtomicFolder::create(dir / "c", {});  // locks its folder
  ASSERT_OK(other);
  ASSERT_OK(put(dir / "set", "new"));
  EXPECT_FALSE(fs::exists(dir / left));
  EXPECT_TRUE(fs::exists(dir / with_more / kFile));
  EXPECT_TRUE(fs::exists(other->path()));
}

}  // namespace
}  // namespace flatbed
