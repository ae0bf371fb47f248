// cached_fraction(): before a file is dropped from the page cache and after, counted and sampled.
#include "io/page_cache.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/direct_file.hpp"
#include "io/file.hpp"
#include "io/large_allocator.hpp"
#include "support/expect_error.hpp"
#include "support/page_cache.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::drop_from_cache;
using test::TempDir;
using test::write_file;

constexpr std::size_t kNbytes = (4 << 20) + 100;
constexpr unsigned kCachestatCall = 451;

// Runs `body` in a child process whose kernel has no cachestat(2). Its exit status.
int without_cachestat(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kCachestatCall, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{4, filter};
    const bool filtered = ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                          ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
    ::_exit(filtered ? body() : 77);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(CachedFraction, IsAllOfAFileJustWrittenAndNoneOfADroppedOne) {
  const TempDir dir;
  write_file(dir / "a", std::string(kNbytes, 'x'));
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  const std::optional<double> written = cached_fraction(*file, 0, kNbytes);
  if (!written) GTEST_SKIP() << "the system does not tell";
  EXPECT_EQ(*written, 1.0);
  ASSERT_TRUE(drop_from_cache(dir / "a"));
  const std::optional<double> dropped = cached_fraction(*file, 0, kNbytes);
  ASSERT_TRUE(dropped);
  if (*dropped == 1) GTEST_SKIP() << "the file system keeps what it is told to forget";
  EXPECT_EQ(*dropped, 0.0);
}

TEST(CachedFraction, IsThatOfTheRangeAlone) {
  const TempDir dir;
  write_file(dir / "a", std::string(kNbytes, 'x'));
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  ASSERT_TRUE(drop_from_cache(dir / "a"));
  if (cached_fraction(*file, 0, kNbytes) != 0.0) GTEST_SKIP() << "the pages were not dropped";
  // Without this the kernel would read ahead.
  ASSERT_EQ(::posix_fadvise(file->descriptor()->get(), 0, 0, POSIX_FADV_RANDOM), 0);
  std::vector<std::byte> half(2 << 20);
  ASSERT_OK(file->read_at(0, half));
  EXPECT_EQ(cached_fraction(*file, 0, 2 << 20), 1.0);
  EXPECT_EQ(cached_fraction(*file, 2 << 20, kNbytes), 0.0);  // reaches beyond the end
  EXPECT_EQ(cached_fraction(*file, 1 << 20, 2 << 20), 0.5);
  EXPECT_EQ(cached_fraction(*file, (2 << 20) - 1, 1), 1.0);
  EXPECT_EQ(cached_fraction(*file, kNbytes - 1, 1), 0.0);
}

TEST(CachedFraction, OfALargeRangeIsThatOfWindowsAllOverIt) {
  constexpr std::size_t kLarge = 64 << 20;
  const TempDir dir;
  write_file(dir / "a", std::string(kLarge, 'x'));
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  if (cached_fraction(*file, 0, 1) != 1.0) GTEST_SKIP() << "the system does not tell";
  EXPECT_EQ(cached_fraction(*file, 0, kLarge), 1.0);
  ASSERT_TRUE(drop_from_cache(dir / "a"));
  if (cached_fraction(*file, 0, kLarge) != 0.0) GTEST_SKIP() << "the pages were not dropped";
  ASSERT_EQ(::posix_fadvise(file->descriptor()->get(), 0, 0, POSIX_FADV_RANDOM), 0);
  std::vector<std::byte> quarter(kLarge / 4);
  ASSERT_OK(file->read_at(kLarge / 2, quarter));
  EXPECT_EQ(cached_fraction(*file, 0, kLarge), 0.25);
  EXPECT_EQ(cached_fraction(*file, kLarge / 2, kLarge / 2), 0.5);
}

TEST(CachedFraction, StaysAsItIsWhenAFileIsReadDirectly) {
  const TempDir dir;
  write_file(dir / "a", std::string(kNbytes, 'x'));
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  const std::optional<DirectFile> direct = DirectFile::open(*file);
  ASSERT_TRUE(drop_from_cache(dir / "a"));
  if (!direct || cached_fraction(*file, 0, kNbytes) != 0.0) GTEST_SKIP() << "no O_DIRECT here";
  ByteBuffer out(8 << 20);
  EXPECT_EQ(direct->read_at(0, out).value(), kNbytes);
  EXPECT_EQ(cached_fraction(*file, 0, kNbytes), 0.0);
}

TEST(CachedFraction, OfNothingIsOne) {
  const TempDir dir;
  write_file(dir / "a", "0123456789");
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  EXPECT_EQ(cached_fraction(*file, 3, 0), 1.0);
  EXPECT_EQ(cached_fraction(*file, 10, 5), 1.0);
  EXPECT_EQ(cached_fraction(*file, UINT64_MAX, UINT64_MAX), 1.0);
}

TEST(CachedFraction, IsSampledWhereTheKernelDoesNotCount) {
  const TempDir dir;
  write_file(dir / "a", std::string(kNbytes, 'x'));
  write_file(dir / "small", "x");
  const Result<File> file = File::open(dir / "a");
  const Result<File> small = File::open(dir / "small");
  ASSERT_OK(file);
  ASSERT_OK(small);
  const int written = without_cachestat([&] {
    if (!cached_fraction(*file, 0, kNbytes)) return 78;
    return cached_fraction(*file, 0, kNbytes) == 1.0 && cached_fraction(*file, 5, 1) == 1.0 &&
                   cached_fraction(*small, 0, 1) == 1.0
               ? 0
               : 1;
  });
  if (written == 77 || written == 78) GTEST_SKIP() << "no filter for system calls, or no sample";
  EXPECT_EQ(written, 0);
  ASSERT_TRUE(drop_from_cache(dir / "a"));
  const int dropped = without_cachestat([&] {
    const double found = *cached_fraction(*file, 0, kNbytes);
    // A kernel that reads what the sample asked for may be done with a page before the next one.
    return found < 0.9 ? 0 : found == 1 ? 77 : 1;
  });
  if (dropped == 77) GTEST_SKIP() << "the file system keeps what it is told to forget";
  EXPECT_EQ(dropped, 0);
}

TEST(CachedFraction, IsUnknownWhenTheSampleMeetsTheEndOfACutFile) {
  const TempDir dir;
  write_file(dir / "a", std::string(kNbytes, 'x'));
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  ASSERT_EQ(::truncate((dir / "a").c_str(), 0), 0);
  const int status = without_cachestat([&] { return cached_fraction(*file, 0, kNbytes) ? 1 : 0; });
  if (status == 77) GTEST_SKIP() << "no filter for system calls";
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace flatbed
