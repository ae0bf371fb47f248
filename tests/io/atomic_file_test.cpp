// AtomicFile under real faults: whatever goes wrong, the target is as it was and nothing is left
// beside it.
#include "io/atomic_file.hpp"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "support/expect_error.hpp"
#include "support/fault_io.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::FaultIo;
using test::IoCall;
using test::kEveryCall;
using test::nth;
using test::read_file;
using test::TempDir;
using test::write_file;
using Names = std::vector<std::string>;

Result<CommitReport> replace_with(const std::filesystem::path& target, std::string_view bytes,
                                  const AtomicFileOptions& options = {}) {
  FLATBED_ASSIGN(AtomicFile file, AtomicFile::create(target, bytes.size(), options));
  FLATBED_TRY(file.write_at(0, as_bytes(bytes)));
  file.start_writeback(0, bytes.size());
  return file.commit();
}

mode_t mode_of(const std::filesystem::path& path) {
  struct stat status = {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return status.st_mode & 07777;
}

// Runs `body` in a child process, whose limits and user it may change. Returns its exit status.
int in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = -1;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(AtomicFile, WritesANewFile) {
  const TempDir dir;
  const Result<CommitReport> report = replace_with(dir / "a", "new");
  ASSERT_OK(report);
  EXPECT_TRUE(report->durable());
  EXPECT_EQ(report->note, "");
  EXPECT_EQ(read_file(dir / "a"), "new");
  EXPECT_EQ(dir.names(), Names{"a"});
}

TEST(AtomicFile, WritesPiecesInAnyOrder) {
  const TempDir dir;
  Result<AtomicFile> file = AtomicFile::create(dir / "a", 6);
  ASSERT_OK(file);
  ASSERT_OK(file->write_at(4, as_bytes("ef")));
  ASSERT_OK(file->write_at(0, as_bytes("ab")));
  ASSERT_OK(file->write_at(2, as_bytes("cd")));
  ASSERT_OK(file->commit());
  EXPECT_EQ(read_file(dir / "a"), "abcdef");
}

TEST(AtomicFile, WritesAnEmptyFile) {
  const TempDir dir;
  ASSERT_OK(replace_with(dir / "a", ""));
  EXPECT_EQ(read_file(dir / "a"), "");
}

TEST(AtomicFile, ShowsTheOldContentsUntilCommit) {
  const TempDir dir;
  write_file(dir / "a", "old");
  Result<AtomicFile> file = AtomicFile::create(dir / "a", 3);
  ASSERT_OK(file);
  ASSERT_OK(file->write_at(0, as_bytes("new")));
  EXPECT_EQ(read_file(dir / "a"), "old");
  ASSERT_OK(file->commit());
  EXPECT_EQ(read_file(dir / "a"), "new");
  EXPECT_EQ(dir.names(), Names{"a"});
}

TEST(AtomicFile, LeavesNothingWithoutCommit) {
  const TempDir dir;
  write_file(dir / "a", "old");
  {
    Result<AtomicFile> file = AtomicFile::create(dir / "a", 3);
    ASSERT_OK(file);
    ASSERT_OK(file->write_at(0, as_bytes("new")));
    const AtomicFile moved = *std::move(file);
  }
  EXPECT_EQ(read_file(dir / "a"), "old");
  EXPECT_EQ(dir.names(), Names{"a"});
}

TEST(AtomicFile, KeepsTheOldContentsWhenTheProcessDies) {
  const TempDir dir;
  write_file(dir / "a", "old");
  in_child([&] {
    Result<AtomicFile> file = AtomicFile::create(dir / "a", 3);
    static_cast<void>(file->write_at(0, as_bytes("new")));
    return 0;  // _exit() runs no destructor
  });
  EXPECT_EQ(read_file(dir / "a"), "old");
  ASSERT_OK(replace_with(dir / "a", "next"));  // what the dead one left is in nobody's way
  EXPECT_EQ(read_file(dir / "a"), "next");
}

TEST(AtomicFile, SaysWhenItWasNotSynced) {
  const TempDir dir;
  const Result<CommitReport> report = replace_with(dir / "a", "new", {.sync = false});
  ASSERT_OK(report);
  EXPECT_FALSE(report->durable());
  EXPECT_EQ(report->note, "not synced, as requested");
  EXPECT_EQ(read_file(dir / "a"), "new");
}

TEST(AtomicFile, ReplacesOnlyWhenItMay) {
  const TempDir dir;
  write_file(dir / "a", "old");
  EXPECT_ERROR(replace_with(dir / "a", "new", {.replace = false}), file_exists);
  EXPECT_EQ(read_file(dir / "a"), "old");
  EXPECT_OK(replace_with(dir / "b", "new", {.replace = false}));
  EXPECT_EQ(dir.names(), (Names{"a", "b"}));
}

TEST(AtomicFile, MeetsATargetThatAppearedMeanwhile) {
  const TempDir dir;
  Result<AtomicFile> file = AtomicFile::create(dir / "a", 0, {.replace = false});
  ASSERT_OK(file);
  write_file(dir / "a", "other");
  EXPECT_ERROR(file->commit(), file_exists);
  EXPECT_EQ(read_file(dir / "a"), "other");
}

TEST(AtomicFile, MeetsADirectoryThatAppearedMeanwhile) {
  const TempDir dir;
  {
    Result<AtomicFile> file = AtomicFile::create(dir / "a", 0);
    ASSERT_OK(file);
    std::filesystem::create_directory(dir / "a");
    EXPECT_ERROR(file->commit(), not_a_regular_file);
  }
  EXPECT_EQ(dir.names(), Names{"a"});
}

TEST(AtomicFile, RefusesTargetsThatAreNoFiles) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "sub");
  ASSERT_EQ(::mkfifo((dir / "fifo").c_str(), 0600), 0);
  EXPECT_ERROR(replace_with(dir / "sub", "x"), not_a_regular_file);
  EXPECT_ERROR(replace_with(dir / "sub/", "x"), not_a_regular_file);
  EXPECT_ERROR(replace_with(dir / "fifo", "x"), not_a_regular_file);
  EXPECT_ERROR(replace_with("/dev/null", "x"), not_a_regular_file);
  EXPECT_ERROR(replace_with(dir / "none/a", "x"), file_not_found);
  EXPECT_ERROR(replace_with("", "x"), invalid_argument);
  EXPECT_EQ(dir.names(), (Names{"fifo", "sub"}));
}

TEST(AtomicFile, ReplacesALinkAndNotWhatItPointsTo) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "sub");
  write_file(dir / "sub/real", "old");
  std::filesystem::create_symlink("sub/real", dir / "link");
  std::filesystem::create_symlink("sub/later", dir / "dangling");
  std::filesystem::create_symlink("loop", dir / "loop");
  for (const char* name : {"link", "dangling", "loop"}) {
    EXPECT_ERROR(replace_with(dir / name, "new", {.replace = false}), file_exists);
    EXPECT_TRUE(std::filesystem::is_symlink(dir / name));
    ASSERT_OK(replace_with(dir / name, "new"));
    EXPECT_FALSE(std::filesystem::is_symlink(dir / name));
    EXPECT_EQ(read_file(dir / name), "new");
  }
  EXPECT_EQ(read_file(dir / "sub/real"), "old");
  EXPECT_FALSE(std::filesystem::exists(dir / "sub/later"));
}

TEST(AtomicFile, RefusesLinksToAnythingButFiles) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "sub");
  std::filesystem::create_symlink("sub", dir / "to_directory");
  std::filesystem::create_symlink("/dev/null", dir / "to_device");
  EXPECT_ERROR(replace_with(dir / "to_directory", "x"), not_a_regular_file);
  EXPECT_ERROR(replace_with(dir / "to_device", "x"), not_a_regular_file);
  EXPECT_EQ(dir.names(), (Names{"sub", "to_device", "to_directory"}));
}

TEST(AtomicFile, RespectsTheUmask) {
  const TempDir dir;
  const mode_t before = ::umask(027);
  const Result<CommitReport> report = replace_with(dir / "a", "x");
  ::umask(before);
  ASSERT_OK(report);
  EXPECT_EQ(mode_of(dir / "a"), 0640u);
}

TEST(AtomicFile, KeepsTheModeAndOwnerOfTheOldFile) {
  const TempDir dir;
  write_file(dir / "a", "old");
  ASSERT_EQ(::chmod((dir / "a").c_str(), 0604), 0);
  const bool root = ::geteuid() == 0;
  if (root) {
    ASSERT_EQ(::chown((dir / "a").c_str(), 12, 34), 0);
  }
  ASSERT_OK(replace_with(dir / "a", "new"));
  EXPECT_EQ(mode_of(dir / "a"), 0604u);
  struct stat status = {};
  ASSERT_EQ(::stat((dir / "a").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, root ? 12u : ::geteuid());
}

TEST(AtomicFile, NeverKeepsSetuidOrSetgid) {
  const TempDir dir;
  write_file(dir / "a", "old");
  ASSERT_EQ(::chmod((dir / "a").c_str(), 06755), 0);
  ASSERT_OK(replace_with(dir / "a", "new"));
  EXPECT_EQ(mode_of(dir / "a"), 0755u);
  ASSERT_OK(replace_with(dir / "a", "new", {.permissions = FilePermissions{07750, ::getegid()}}));
  EXPECT_EQ(mode_of(dir / "a"), 0750u);
}

TEST(AtomicFile, HasTheGivenPermissionsBeforeItHasContents) {
  const TempDir dir;
  write_file(dir / "a", "old");
  const mode_t before = ::umask(0);
  for (const char* name : {"a", "b"}) {
    const AtomicFileOptions options{.permissions = FilePermissions{0600, ::getegid()}};
    Result<AtomicFile> file = AtomicFile::create(dir / name, 3, options);
    ASSERT_OK(file);
    for (const auto& open : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      const std::string path = std::filesystem::read_symlink(open.path(), gone).native();
      if (!path.starts_with(dir.path().native() + "/")) continue;
      EXPECT_EQ(mode_of(open.path()), 0600u) << path;
    }
    ASSERT_OK(file->commit());
    EXPECT_EQ(mode_of(dir / name), 0600u);
  }
  ::umask(before);
}

// A group that is not the process's: only root may set it, and whoever may not leaves its bits out.
TEST(AtomicFile, GivesAnotherGroupOnlyWhatEverybodyGets) {
  const TempDir dir;
  constexpr gid_t kForeign = 54321;
  const bool root = ::geteuid() == 0;
  ASSERT_EQ(::chmod(dir.path().c_str(), 0777), 0);
  const auto mode_as_user = [&](mode_t bits, std::optional<std::uint32_t> group) {
    const int status = in_child([&] {
      if (root && (::setegid(65534) != 0 || ::seteuid(65534) != 0)) return 77;
      const bool done =
          replace_with(dir / "a", "x", {.permissions = FilePermissions{bits, group}}).has_value();
      return done ? 0 : 1;
    });
    EXPECT_EQ(status, 0);
    return mode_of(dir / "a");
  };
  EXPECT_EQ(mode_as_user(0660, kForeign), 0600u);
  EXPECT_EQ(mode_as_user(0664, kForeign), 0644u);
  EXPECT_EQ(mode_as_user(0640, std::nullopt), 0600u);
  if (!root) return;
  ASSERT_OK(replace_with(dir / "b", "x", {.permissions = FilePermissions{0660, kForeign}}));
  struct stat status = {};
  ASSERT_EQ(::stat((dir / "b").c_str(), &status), 0);
  EXPECT_EQ(status.st_gid, kForeign);
  EXPECT_EQ(mode_of(dir / "b"), 0660u);
}

TEST(AtomicFile, TakesNamesUpToTheSystemsLimit) {
  const TempDir dir;
  const std::string longest(255, 'n');
  ASSERT_OK(replace_with(dir / longest, "x"));
  EXPECT_EQ(dir.names(), Names{longest});
  EXPECT_ERROR(replace_with(dir / std::string(256, 'n'), "x"), io_error);
  EXPECT_EQ(dir.names(), Names{longest});
}

TEST(AtomicFile, KeepsAnOpenReaderOnTheOldFile) {
  const TempDir dir;
  write_file(dir / "a", "old");
  std::ifstream reader(dir / "a");
  ASSERT_OK(replace_with(dir / "a", "new"));
  std::string text;
  reader >> text;
  EXPECT_EQ(text, "old");
}

// The limit would end the process with SIGXFSZ if any call went past it.
TEST(AtomicFile, MeetsTheProcesssSizeLimitBeforeTheFirstByte) {
  const TempDir dir;
  write_file(dir / "a", "old");
  const int status = in_child([&] {
    const rlimit limit = {1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const Result<AtomicFile> over = AtomicFile::create(dir / "a", 1001);
    if (over || over.error().code != ErrorCode::no_space) return 1;
    return AtomicFile::create(dir / "a", 1000) ? 0 : 2;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(dir.names(), Names{"a"});
  EXPECT_EQ(read_file(dir / "a"), "old");
}

TEST(AtomicFile, RefusesSizesThatNoFileHas) {
  const TempDir dir;
  EXPECT_ERROR(AtomicFile::create(dir / "a", UINT64_MAX), no_space);
  EXPECT_ERROR(AtomicFile::create(dir / "a", std::uint64_t{1} << 62), no_space);
  EXPECT_TRUE(dir.names().empty());
}

TEST(AtomicFile, SaysThatTheDirectoryIsReadOnly) {
  const TempDir dir;
  write_file(dir / "a", "old");
  ::chmod(dir.path().c_str(), 0555);
  const int status = in_child([&] {
    if (::geteuid() == 0 && ::seteuid(65534) != 0) return 77;
    const Result<CommitReport> report = replace_with(dir / "a", "new");
    return !report && report.error().code == ErrorCode::permission_denied ? 0 : 1;
  });
  ::chmod(dir.path().c_str(), 0755);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(dir / "a"), "old");
  EXPECT_EQ(dir.names(), Names{"a"});
}

// A full disk: a file system of one megabyte.
TEST(AtomicFile, MeetsAFullDiskBeforeTheFirstByte) {
  const TempDir dir;
  if (::mount("none", dir.path().c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "mounting a small file system takes root";
  }
  write_file(dir / "a", "old");
  const Result<AtomicFile> over = AtomicFile::create(dir / "a", 2 << 20);
  const Names names = dir.names();
  const std::string contents = read_file(dir / "a");
  const Result<CommitReport> fits = replace_with(dir / "a", std::string(900'000, 'x'));
  ::umount(dir.path().c_str());
  EXPECT_ERROR(over, no_space);
  EXPECT_EQ(names, Names{"a"});
  EXPECT_EQ(contents, "old");
  EXPECT_OK(fits);
}

// Bytes that differ, so that a hole or a shift is seen.
std::string numbered(std::size_t nbytes) {
  std::string text(nbytes, '\0');
  for (std::size_t i = 0; i < nbytes; ++i) text[i] = static_cast<char>(i * 7 ^ i >> 8);
  return text;
}

TEST(AtomicFile, ContinuesShortWrites) {
  const TempDir dir;
  const std::string text = numbered(100'000);
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    FaultIo faults;
    faults.shorten_writes({.seed = seed});
    ASSERT_OK(replace_with(dir / "a", text));
    EXPECT_GT(faults.count(IoCall::write), 2u);
    EXPECT_TRUE(read_file(dir / "a") == text) << seed;
  }
}

TEST(AtomicFile, RepeatsInterruptedWrites) {
  const TempDir dir;
  FaultIo faults;
  faults.fail(IoCall::write, {1, 3}, EINTR);
  ASSERT_OK(replace_with(dir / "a", "new"));
  EXPECT_EQ(faults.count(IoCall::write), 4u);
  EXPECT_EQ(read_file(dir / "a"), "new");
}

TEST(AtomicFile, RepeatsInterruptedOpens) {
  const TempDir dir;
  FaultIo faults;
  faults.fail(IoCall::open, nth(1), EINTR);
  ASSERT_OK(replace_with(dir / "a", "new"));
  EXPECT_EQ(read_file(dir / "a"), "new");
}

// A quota, or a file system that cannot reserve, fills up in the middle.
TEST(AtomicFile, KeepsTheOldFileWhicheverWriteFindsTheDiskFull) {
  const TempDir dir;
  write_file(dir / "a", "old");
  const std::string text = numbered(100'000);
  std::uint64_t failures = 0;
  for (std::uint64_t n = 1; n < 1000; ++n) {
    FaultIo faults;
    faults.shorten_writes({.seed = 3, .multiple = 4096});
    faults.fail(IoCall::write, nth(n), ENOSPC);
    const Result<CommitReport> report = replace_with(dir / "a", text);
    if (report) break;
    ++failures;
    EXPECT_ERROR(report, no_space);
    EXPECT_EQ(read_file(dir / "a"), "old");
    EXPECT_EQ(dir.names(), Names{"a"});
  }
  EXPECT_GT(failures, 2u);
  EXPECT_TRUE(read_file(dir / "a") == text);
}

TEST(AtomicFile, GivesUpAfterAWriteOfNothing) {
  const TempDir dir;
  FaultIo faults;
  faults.write_nothing(nth(1));
  EXPECT_ERROR(replace_with(dir / "a", "new"), io_error);
  EXPECT_TRUE(dir.names().empty());
}

TEST(AtomicFile, SyncsTheFileBeforeItHasItsNameAndTheDirectoryAfter) {
  for (const bool replaces : {false, true}) {
    const TempDir dir;
    if (replaces) write_file(dir / "a", "old");
    std::string at_first;
    std::string at_second;
    {
      FaultIo faults;
      faults.before(IoCall::sync, nth(1), [&] { at_first = read_file(dir / "a"); });
      faults.before(IoCall::sync, nth(2), [&] { at_second = read_file(dir / "a"); });
      ASSERT_OK(replace_with(dir / "a", "new"));
      EXPECT_EQ(faults.count(IoCall::sync), 2u);
    }
    EXPECT_EQ(at_first, replaces ? "old" : "");
    EXPECT_EQ(at_second, "new");
    FaultIo of_directory(dir.path().filename().native());
    ASSERT_OK(replace_with(dir / "a", "new"));
    EXPECT_EQ(of_directory.count(IoCall::sync), 1u);
  }
}

TEST(AtomicFile, SaysThatTheDirectoryWasNotSynced) {
  const TempDir dir;
  FaultIo faults(dir.path().filename().native());
  faults.fail(IoCall::sync, nth(1), EIO);
  const Result<CommitReport> report = replace_with(dir / "a", "new");
  ASSERT_OK(report);
  EXPECT_NE(report->note.find("cannot sync the directory"), std::string::npos) << report->note;
}

TEST(AtomicFile, NeverSyncsAFileAgainAfterAFailure) {
  const TempDir dir;
  FaultIo faults;
  faults.fail(IoCall::sync, kEveryCall, EIO);
  EXPECT_ERROR(replace_with(dir / "a", "new"), io_error);
  EXPECT_EQ(faults.count(IoCall::sync), 1u);
  EXPECT_TRUE(dir.names().empty());
}

constexpr int kNoFilter = 77;

// From now on the kernel answers these system calls of this process with an error. False where the
// system does not let a process do that to itself.
bool fail_calls(const std::vector<long>& calls, int error_number) {
  std::vector<sock_filter> filter{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
  };
  for (const long call : calls) {
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 1));
    filter.push_back(
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error_number)));
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// Replaces 'old' by 'new' while these calls fail: the code of the error, 0 when it was committed,
// or -1 when it was and durability is unknown.
int replace_while_failing(const std::filesystem::path& target, const std::vector<long>& calls,
                          int error_number, const AtomicFileOptions& options = {}) {
  const int status = in_child([&] {
    if (!fail_calls(calls, error_number)) return kNoFilter;
    const Result<CommitReport> report = replace_with(target, "new", options);
    if (!report) return static_cast<int>(report.error().code);
    return report->durable() ? 0 : 255;
  });
  return status == 255 ? -1 : status;
}

struct Fault {
  std::vector<long> calls;
  int error_number;
  ErrorCode code;
};

TEST(AtomicFile, KeepsTheOldFileWhateverCallFails) {
  const TempDir dir;
  write_file(dir / "a", "old");
  const std::vector<Fault> faults{
      {{SYS_renameat, SYS_renameat2}, EINVAL, ErrorCode::unsupported_filesystem},
      {{SYS_renameat, SYS_renameat2}, EXDEV, ErrorCode::unsupported_filesystem},
      {{SYS_renameat, SYS_renameat2}, EACCES, ErrorCode::permission_denied},
      {{SYS_fsync}, EIO, ErrorCode::io_error},
      {{SYS_fsync}, EDQUOT, ErrorCode::no_space},
      {{SYS_close}, EIO, ErrorCode::io_error},
      {{SYS_pwrite64}, ENOSPC, ErrorCode::no_space},
      {{SYS_fallocate}, ENOSPC, ErrorCode::no_space},
      {{SYS_openat}, EMFILE, ErrorCode::resource_exhausted},
  };
  for (const Fault& fault : faults) {
    const int code = replace_while_failing(dir / "a", fault.calls, fault.error_number);
    if (code == kNoFilter) GTEST_SKIP() << "no system call filters here";
    EXPECT_EQ(code, static_cast<int>(fault.code)) << fault.calls[0] << " " << fault.error_number;
    EXPECT_EQ(read_file(dir / "a"), "old");
    EXPECT_EQ(dir.names(), Names{"a"});
  }
}

TEST(AtomicFile, DoesWithoutWhatAFileSystemLacks) {
  const TempDir dir;
  for (const long call : {SYS_fallocate, SYS_sync_file_range, SYS_fchown, SYS_fchmod}) {
    write_file(dir / "a", "old");
    const int code = replace_while_failing(dir / "a", {call}, EOPNOTSUPP);
    if (code == kNoFilter) GTEST_SKIP() << "no system call filters here";
    EXPECT_EQ(code, 0) << call;
    EXPECT_EQ(read_file(dir / "a"), "new");
  }
}

TEST(AtomicFile, SaysThatAFileSystemCannotSync) {
  const TempDir dir;
  write_file(dir / "a", "old");
  const int code = replace_while_failing(dir / "a", {SYS_fsync}, EINVAL);
  if (code == kNoFilter) GTEST_SKIP() << "no system call filters here";
  EXPECT_EQ(code, -1);
  EXPECT_EQ(read_file(dir / "a"), "new");
}

TEST(AtomicFile, NeverReplacesUnaskedAlsoWithoutTheKernelsHelp) {
  const TempDir dir;
  const int code = replace_while_failing(dir / "a", {SYS_renameat2}, EINVAL, {.replace = false});
  if (code == kNoFilter) GTEST_SKIP() << "no system call filters here";
  EXPECT_EQ(code, 0);
  EXPECT_EQ(read_file(dir / "a"), "new");
  EXPECT_EQ(dir.names(), Names{"a"});

  const int status = in_child([&] {
    fail_calls({SYS_renameat2}, EINVAL);
    Result<AtomicFile> file = AtomicFile::create(dir / "b", 0, {.replace = false});
    write_file(dir / "b", "other");
    return static_cast<int>(file->commit().error().code);
  });
  EXPECT_EQ(status, static_cast<int>(ErrorCode::file_exists));
  EXPECT_EQ(read_file(dir / "b"), "other");
  EXPECT_EQ(
      replace_while_failing(dir / "c", {SYS_renameat2, SYS_linkat}, EINVAL, {.replace = false}),
      static_cast<int>(ErrorCode::unsupported_filesystem));
}

}  // namespace
}  // namespace flatbed
