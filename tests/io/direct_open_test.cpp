// DirectFile::open(): direct wherever the system reads directly, aligned as it says, and the file
// that was opened before. Stands before the C library's statx(), so that a test says what the
// system says.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <iterator>
#include <optional>
#include <span>
#include <string>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "io/direct_file.hpp"
#include "io/file.hpp"
#include "io/large_allocator.hpp"
#include "support/descriptors.hpp"
#include "support/expect_error.hpp"
#include "support/fault_io.hpp"
#include "support/temp_dir.hpp"

namespace {
// What it makes of the system's answer; empty: nothing.
std::function<int(struct statx*)> g_statx;
}  // namespace

extern "C" int statx(int descriptor, const char* path, int flags, unsigned mask,
                     struct statx* out) noexcept {
  const long result = ::syscall(SYS_statx, descriptor, path, flags, mask, out);
  return result == 0 && g_statx ? g_statx(out) : static_cast<int>(result);
}

namespace flatbed {
namespace {

using test::FaultIo;
using test::IoCall;
using test::nth;
using test::open_descriptors;
using test::TempDir;
using test::write_file;

constexpr std::size_t kNbytes = 256 << 10;

class DirectOpen : public testing::Test {
 protected:
  void SetUp() override {
    for (std::size_t i = 0; i < kNbytes; ++i) text_ += static_cast<char>(i * i >> 9 ^ i);
    write_file(dir_ / "a", text_);
    file_ = File::open(dir_ / "a").value();
    if (!system_reads_directly()) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
  }
  void TearDown() override { g_statx = nullptr; }

  // Without the code under test.
  [[nodiscard]] bool system_reads_directly() const {
    const int descriptor = ::open((dir_ / "a").c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (descriptor < 0) return false;
    ByteBuffer block(2 << 20);
    const bool reads = ::pread(descriptor, block.data(), 4096, 4096) == 4096;
    ::close(descriptor);
    return reads;
  }
  // Whether the file is read as it is.
  [[nodiscard]] bool reads(const DirectFile& direct) const {
    ByteBuffer block(2 << 20);
    const std::span<std::byte> out = std::span(block).first(kNbytes);
    const Result<std::size_t> got = direct.read_at(0, out);
    return got && *got == kNbytes && as_text(out) == text_;
  }
  // The file, where the system says this of its alignment.
  std::optional<DirectFile> open_where(std::uint32_t memory, std::uint32_t offset) {
#ifdef STATX_DIOALIGN
    g_statx = [=](struct statx* out) {
      out->stx_mask |= STATX_DIOALIGN;
      out->stx_dio_mem_align = memory;
      out->stx_dio_offset_align = offset;
      return 0;
    };
#endif
    return DirectFile::open(*file_);
  }

  TempDir dir_;
  std::string text_;
  std::optional<File> file_;
};

TEST_F(DirectOpen, IsDirectWhereTheSystemReadsDirectly) {
  const std::optional<DirectFile> direct = DirectFile::open(*file_);
  ASSERT_TRUE(direct);
  EXPECT_TRUE(reads(*direct));
}

TEST_F(DirectOpen, FindsTheFileByItsNameWhereThereIsNoProc) {
  const std::size_t before = open_descriptors();
  {
    FaultIo faults;
    faults.fail(IoCall::open, nth(1), ENOENT);
    const std::optional<DirectFile> direct = DirectFile::open(*file_);
    EXPECT_EQ(faults.count(IoCall::open), 2u);
    ASSERT_TRUE(direct);
    EXPECT_TRUE(reads(*direct));
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(DirectOpen, TakesNoOtherFileOfThatName) {
  std::filesystem::rename(dir_ / "a", dir_ / "b");
  write_file(dir_ / "a", text_);
  const std::size_t before = open_descriptors();
  FaultIo faults;
  faults.fail(IoCall::open, nth(1), ENOENT);
  EXPECT_FALSE(DirectFile::open(*file_));
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(DirectOpen, GoesOnBehindShortReads) {
  const std::optional<DirectFile> direct = DirectFile::open(*file_);
  ASSERT_TRUE(direct);
  for (std::uint64_t seed = 1; seed < 8; ++seed) {
    FaultIo faults("a");
    faults.shorten({.seed = seed, .multiple = 4096});
    EXPECT_TRUE(reads(*direct)) << seed;
  }
}

#ifdef STATX_DIOALIGN
TEST_F(DirectOpen, IsAlignedAsTheSystemSays) {
  for (const std::uint32_t alignment : {512U, 1024U, 4096U, 65'536U}) {
    for (const bool of_memory : {false, true}) {
      const std::optional<DirectFile> direct =
          open_where(of_memory ? alignment : 4, of_memory ? 512 : alignment);
      ASSERT_TRUE(direct);
      EXPECT_EQ(direct->alignment(), alignment);
    }
  }
  const std::optional<DirectFile> fine = open_where(1, 1);
  ASSERT_TRUE(fine);
  EXPECT_EQ(fine->alignment(), 512u);
}

TEST_F(DirectOpen, IsNotDirectWhereTheSystemSaysSo) {
  EXPECT_FALSE(open_where(0, 0));
  EXPECT_FALSE(open_where(512, 0));
  EXPECT_FALSE(open_where(0, 512));
  EXPECT_FALSE(open_where(512, 1536));
}

TEST_F(DirectOpen, IsAlignedToPagesWhereTheSystemSaysNothing) {
  g_statx = [](struct statx* out) {
    out->stx_mask &= ~std::uint32_t{STATX_DIOALIGN};
    out->stx_dio_mem_align = 0;
    return 0;
  };
  const std::optional<DirectFile> silent = DirectFile::open(*file_);
  ASSERT_TRUE(silent);
  EXPECT_EQ(silent->alignment(), 4096u);
  g_statx = [](struct statx*) { return -1; };
  const std::optional<DirectFile> failing = DirectFile::open(*file_);
  ASSERT_TRUE(failing);
  EXPECT_EQ(failing->alignment(), 4096u);
}
#endif

}  // namespace
}  // namespace flatbed
