// LeasedFile: the bytes of a file where the page cache has them, while nobody can change them.
#include "io/leased_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "base/bytes.hpp"
#include "io/descriptor.hpp"
#include "io/file.hpp"
#include "support/bytes_source.hpp"
#include "support/descriptors.hpp"
#include "support/expect_error.hpp"
#include "support/leases.hpp"
#include "support/page_map.hpp"
#include "support/process_memory.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::can_write;
using test::TempDir;
using test::write_file;

constexpr std::uint64_t kNbytes = 300'007;

std::string pattern(std::uint64_t nbytes) {
  std::string text(static_cast<std::size_t>(nbytes), '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * i >> 9 ^ i);
  return text;
}

class LeasedFiles : public testing::Test {
 protected:
  void SetUp() override {
    if (!test::has_leases(dir.path())) GTEST_SKIP() << "no leases in the temporary folder";
    write_file(path, text);
    opened.emplace(File::open(path).value());
    leased = LeasedFile::open(*opened);
    ASSERT_TRUE(leased);
  }

  const TempDir dir;
  const std::filesystem::path path = dir / "a";
  const std::string text = pattern(kNbytes);
  std::optional<File> opened;
  std::optional<LeasedFile> leased;
};

TEST_F(LeasedFiles, HaveTheBytesOfAnyRange) {
  for (const FileRange range : {FileRange{0, kNbytes}, FileRange{1, 2}, FileRange{4096, 8192},
                                FileRange{4095, 200'001}, FileRange{kNbytes - 1, kNbytes}}) {
    const auto pages = leased->pages(range);
    ASSERT_TRUE(pages);
    EXPECT_TRUE(as_text(pages->bytes(range)) ==
                text.substr(range.begin, static_cast<std::size_t>(range.nbytes())));
    EXPECT_EQ(pages->bytes({range.begin, range.begin}).size(), 0U);
  }
}

TEST_F(LeasedFiles, HoldUpWhoeverWantsToWrite) {
  {
    const auto pages = leased->pages({0, kNbytes});
    ASSERT_TRUE(pages);
    EXPECT_FALSE(can_write(path));
    EXPECT_OK(File::open(path));
  }
  EXPECT_TRUE(can_write(path));
  const auto again = leased->pages({0, kNbytes});
  ASSERT_TRUE(again);
  EXPECT_FALSE(can_write(path));
}

TEST_F(LeasedFiles, AreCutOnlyWhenTheirPagesAreGivenBack) {
  std::atomic<bool> cut = false;
  std::thread other;
  {
    const auto pages = leased->pages({0, kNbytes});
    ASSERT_TRUE(pages);
    other = std::thread([&] { cut = ::truncate(path.c_str(), 5000) == 0; });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_FALSE(cut);
    EXPECT_TRUE(as_text(pages->bytes({0, kNbytes})) == text);
  }
  other.join();
  EXPECT_TRUE(cut);
  EXPECT_FALSE(leased->pages({0, kNbytes}));
  EXPECT_FALSE(leased->pays());
}

// The mapping ends where the source does.
TEST_F(LeasedFiles, HaveNoMoreThanTheirSource) {
  ASSERT_EQ(::truncate(path.c_str(), 2 * kNbytes), 0);
  EXPECT_FALSE(leased->pages({kNbytes - 1, kNbytes + 1}));
  EXPECT_FALSE(leased->pages({kNbytes, 2 * kNbytes}));
  EXPECT_TRUE(can_write(path));
  EXPECT_TRUE(leased->pages({kNbytes - 1, kNbytes}));
}

TEST_F(LeasedFiles, ThatSomebodyMayWriteToAreRefused) {
  const auto refused = [&] {
    auto fresh = LeasedFile::open(*opened);
    return fresh && !fresh->pages({0, kNbytes}) && !fresh->pays();
  };
  std::optional<Descriptor> writer(std::in_place, ::open(path.c_str(), O_RDWR | O_CLOEXEC));
  EXPECT_TRUE(refused());
  EXPECT_FALSE(leased->pages({0, kNbytes}));
  void* const memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writer->get(), 0);
  ASSERT_NE(memory, MAP_FAILED);
  writer.reset();
  EXPECT_TRUE(refused());  // by the mapping
  ::munmap(memory, 4096);
  EXPECT_FALSE(refused());
  EXPECT_FALSE(leased->pages({0, kNbytes}));  // for good
}

TEST_F(LeasedFiles, OfOthersAreRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  std::filesystem::permissions(dir.path(), std::filesystem::perms(0755));
  std::filesystem::permissions(path, std::filesystem::perms(0644));
  const pid_t child = ::fork();
  if (child == 0) {
    constexpr uid_t kOther = 65534;
    if (::setresuid(kOther, kOther, kOther) != 0) ::_exit(1);
    auto fresh = LeasedFile::open(*opened);
    ::_exit(fresh && !fresh->pages({0, kNbytes}) ? 0 : 2);
  }
  int status = 1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << WEXITSTATUS(status);
}

std::atomic<int> signals = 0;

TEST_F(LeasedFiles, SendTheProgramNoSignal) {
  struct sigaction count = {};
  count.sa_handler = [](int) { ++signals; };
  struct sigaction io = {};
  struct sigaction urgent = {};
  ::sigaction(SIGIO, &count, &io);
  ::sigaction(SIGURG, &count, &urgent);
  for (int i = 0; i < 3; ++i) {
    const auto pages = leased->pages({0, kNbytes});
    ASSERT_TRUE(pages);
    EXPECT_FALSE(can_write(path));
  }
  ::sigaction(SIGIO, &io, nullptr);
  ::sigaction(SIGURG, &urgent, nullptr);
  EXPECT_EQ(signals, 0);
}

TEST_F(LeasedFiles, AreThoseOfTheirSourceWhateverBecomesOfTheName) {
  std::filesystem::rename(path, dir / "b");
  write_file(path, "another");
  auto renamed = LeasedFile::open(*opened);
  ASSERT_TRUE(renamed);
  std::filesystem::remove(dir / "b");
  const auto pages = renamed->pages({0, kNbytes});
  ASSERT_TRUE(pages);
  EXPECT_TRUE(as_text(pages->bytes({0, kNbytes})) == text);
  EXPECT_TRUE(can_write(path));
}

TEST_F(LeasedFiles, LeaveNothingBehind) {
  leased.reset();
  const std::size_t descriptors = test::open_descriptors();
  {
    auto first = LeasedFile::open(*opened);
    ASSERT_TRUE(first);
    LeasedFile second = *std::move(first);
    auto pages = second.pages({0, kNbytes});
    ASSERT_TRUE(pages);
    const LeasedFile::Pages moved = *std::move(pages);
    pages.reset();
    EXPECT_FALSE(can_write(path));
  }
  EXPECT_TRUE(can_write(path));
  EXPECT_EQ(test::open_descriptors(), descriptors);
}

// In this process's memory, as far as it is counted by page tables.
TEST_F(LeasedFiles, KeepFewPagesInThePageTable) {
  constexpr std::uint64_t kLarge = 192 << 20;
  constexpr std::uint64_t kStep = 2 << 20;
  ASSERT_EQ(::truncate(path.c_str(), kLarge), 0);
  const File large = File::open(path).value();
  auto file = LeasedFile::open(large);
  ASSERT_TRUE(file);
  const std::uint64_t before = test::memory_nbytes("RssFile:") + test::memory_nbytes("RssShmem:");
  std::uint64_t most = 0;
  for (std::uint64_t at = 0; at < kLarge; at += kStep) {
    ASSERT_TRUE(file->pages({at, at + kStep}));
    most = std::max(most, test::memory_nbytes("RssFile:") + test::memory_nbytes("RssShmem:"));
  }
  EXPECT_LE(most, before + (17 << 20));  // a page table may get neighbours, too
}

// Memory would no longer find room.
TEST_F(LeasedFiles, OfProcessesWithFewAddressesAreNone) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit limit{rlim_t{1} << 46, RLIM_INFINITY};
    if (::setrlimit(RLIMIT_AS, &limit) != 0) ::_exit(2);
    ::_exit(LeasedFile::open(*opened) ? 1 : 0);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// It would stay in memory as a whole.
TEST_F(LeasedFiles, OfProcessesThatLockTheirMemoryAreNone) {
  if (!test::kPagesCanBeLocked) GTEST_SKIP() << "mlockall() does nothing here";
  const pid_t child = ::fork();
  if (child == 0) {
    if (::mlockall(MCL_FUTURE) != 0) ::_exit(77);
    const bool opened_locked = LeasedFile::open(*opened).has_value();
    ::munlockall();
    const bool opened_unlocked = LeasedFile::open(*opened).has_value();
    ::_exit(!opened_locked && opened_unlocked ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no memory may be locked";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// The kernel also maps pages beside those that are asked for.
TEST_F(LeasedFiles, KeepNoPagesOfTheirNeighbours) {
  constexpr std::uint64_t kLarge = 24 << 20;
  constexpr std::uint64_t kBegin = 60 << 10;  // the last 4 KiB of a range that it maps at once
  constexpr std::uint64_t kMost = 8 << 20;
  ASSERT_EQ(::truncate(path.c_str(), kLarge), 0);
  const File large = File::open(path).value();
  auto file = LeasedFile::open(large);
  ASSERT_TRUE(file);
  for (int i = 0; i < 2; ++i) {  // in either way
    const auto pages = file->pages({kBegin, kBegin + kMost / 2});
    ASSERT_TRUE(pages);
    EXPECT_GE(test::mapped_nbytes(path), kMost / 4);  // nearly all of it
  }
  EXPECT_EQ(test::mapped_nbytes(path), 0u);
}

TEST_F(LeasedFiles, PayWhereMappingTakesLessTimeThanReading) {
  // A processor that is taken away between mapping and giving back looks like reading.
  for (int i = 0; i < 10'000 && leased->pays(); ++i) {
    const auto pages = leased->pages({0, 1});
    ASSERT_TRUE(pages);
  }
  EXPECT_FALSE(leased->pays());
  auto slow = LeasedFile::open(*opened);
  ASSERT_TRUE(slow);
  for (int i = 0; i < 20; ++i) {
    const auto pages = slow->pages({0, 1});
    ASSERT_TRUE(pages);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(slow->pays());
}

TEST(LeasedFile, OfASourceWithoutADescriptorThereIsNone) {
  const test::BytesSource bytes("text");
  EXPECT_FALSE(LeasedFile::open(bytes));
}

// Their files change past the kernel, and of these no lease would help.
TEST(LeasedFile, OfOtherFileSystemsThereIsNone) {
  const Result<File> file = File::open("/proc/self/status");
  ASSERT_OK(file);
  EXPECT_FALSE(LeasedFile::open(*file));
}

}  // namespace
}  // namespace flatbed
