// DirectFile: reads what File reads, whatever has become of the file's name, and says where it
// stops.
#include "io/direct_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/bytes.hpp"
#include "io/file.hpp"
#include "io/large_allocator.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::TempDir;
using test::write_file;

std::string pattern(std::size_t nbytes) {
  std::string text(nbytes, '\0');
  for (std::size_t i = 0; i < nbytes; ++i) text[i] = static_cast<char>(i * i >> 9 ^ i);
  return text;
}

// What one read of the whole file gives, with room for the last block.
Result<std::string> read_all(const DirectFile& direct, std::size_t file_nbytes) {
  const std::size_t alignment = direct.alignment();
  ByteBuffer buffer((file_nbytes / alignment + 1) * alignment + (2 << 20));  // 2 MiB: aligned
  const std::span<std::byte> out =
      std::span(buffer).first((file_nbytes / alignment + 1) * alignment);
  FLATBED_ASSIGN(const std::size_t got, direct.read_at(0, out));
  return std::string(as_text(out.first(got)));
}

TEST(DirectFile, ReadsWhatIsInTheFile) {
  const TempDir dir;
  const std::string text = pattern(3 << 20);
  write_file(dir / "a", text);
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  const std::optional<DirectFile> direct = DirectFile::open(*file);
  if (!direct) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
  EXPECT_GE(direct->alignment(), 512u);
  EXPECT_EQ(direct->alignment() & (direct->alignment() - 1), 0u);
  const Result<std::string> all = read_all(*direct, text.size());
  ASSERT_OK(all);
  EXPECT_TRUE(*all == text);

  ByteBuffer block(2 << 20);
  const std::size_t at = 5 * direct->alignment();
  const std::span<std::byte> out = std::span(block).first(3 * direct->alignment());
  const Result<std::size_t> got = direct->read_at(at, out);
  ASSERT_OK(got);
  EXPECT_EQ(*got, out.size());
  EXPECT_TRUE(as_text(out) == text.substr(at, out.size()));
}

TEST(DirectFile, StopsAtAnEndThatIsNotAligned) {
  const TempDir dir;
  for (const std::size_t nbytes : {1u, 511u, 513u, 4095u, 4097u, 65'537u, 1'000'003u}) {
    const std::string text = pattern(nbytes);
    write_file(dir / "a", text);
    const Result<File> file = File::open(dir / "a");
    ASSERT_OK(file);
    const std::optional<DirectFile> direct = DirectFile::open(*file);
    if (!direct) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
    const Result<std::string> all = read_all(*direct, nbytes);
    ASSERT_OK(all);
    EXPECT_TRUE(*all == text) << nbytes;
  }
}

TEST(DirectFile, ReadsNothingBeyondTheEnd) {
  const TempDir dir;
  write_file(dir / "a", pattern(100));
  write_file(dir / "empty", "");
  const Result<File> file = File::open(dir / "a");
  const Result<File> empty = File::open(dir / "empty");
  ASSERT_OK(file);
  ASSERT_OK(empty);
  const std::optional<DirectFile> direct = DirectFile::open(*file);
  const std::optional<DirectFile> none = DirectFile::open(*empty);
  if (!direct || !none) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
  ByteBuffer block(2 << 20);
  EXPECT_EQ(direct->read_at(1 << 20, block).value(), 0u);
  EXPECT_EQ(none->read_at(0, block).value(), 0u);
  EXPECT_EQ(direct->read_at(0, std::span<std::byte>()).value(), 0u);
}

// Neither a renamed, nor a replaced, nor an unlinked file is confused with what has its name now.
TEST(DirectFile, ReadsTheFileThatWasOpenedWhateverHasItsName) {
  const TempDir dir;
  const std::string text = pattern(10'000);
  write_file(dir / "a", text);
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  if (!DirectFile::open(*file)) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";

  const auto expect_same = [&](std::string_view what) {
    const std::optional<DirectFile> direct = DirectFile::open(*file);
    ASSERT_TRUE(direct) << what;
    const Result<std::string> all = read_all(*direct, text.size());
    ASSERT_OK(all);
    EXPECT_TRUE(*all == text) << what;
  };
  std::filesystem::rename(dir / "a", dir / "b");
  expect_same("renamed");
  write_file(dir / "a", std::string(10'000, 'x'));
  expect_same("replaced");
  std::filesystem::remove(dir / "b");
  expect_same("unlinked");
}

TEST(DirectFile, OutlivesItsFileAndMoves) {
  const TempDir dir;
  write_file(dir / "a", "aaa");
  write_file(dir / "b", "bbb");
  std::optional<DirectFile> a = DirectFile::open(File::open(dir / "a").value());
  std::optional<DirectFile> b = DirectFile::open(File::open(dir / "b").value());
  if (!a || !b) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
  DirectFile moved = *std::move(a);
  EXPECT_EQ(read_all(moved, 3).value(), "aaa");
  moved = *std::move(b);
  EXPECT_EQ(read_all(moved, 3).value(), "bbb");
}

TEST(DirectFile, SaysThatMemoryCannotBeWritten) {
  const TempDir dir;
  write_file(dir / "a", pattern(1 << 20));
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  const std::optional<DirectFile> direct = DirectFile::open(*file);
  if (!direct) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
  const std::size_t nbytes = 1 << 20;
  void* memory = ::mmap(nullptr, nbytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  EXPECT_ERROR(direct->read_at(0, {static_cast<std::byte*>(memory), nbytes}), destination_invalid);
  ::munmap(memory, nbytes);
}

TEST(DirectFile, SaysThatTheSystemRefusesARead) {
  const TempDir dir;
  write_file(dir / "a", pattern(1 << 20));
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  const std::optional<DirectFile> direct = DirectFile::open(*file);
  if (!direct) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
  ByteBuffer block(2 << 20);
  const std::span<std::byte> out = std::span(block).first(direct->alignment());
  EXPECT_ERROR(direct->read_at(std::uint64_t{1} << 63, out), unsupported_filesystem);
  const Result<std::size_t> unaligned = direct->read_at(7, out);
  if (unaligned) GTEST_SKIP() << "this file system reads from anywhere";
  EXPECT_ERROR(unaligned, unsupported_filesystem);
}

// Old kernels have no O_DIRECT there, newer ones read it from memory.
TEST(DirectFile, ReadsAFileInMemoryOrRefusesIt) {
  std::string name = "/dev/shm/flatbed-XXXXXX";
  const int descriptor = ::mkstemp(name.data());
  if (descriptor < 0) GTEST_SKIP() << "no /dev/shm";
  ::close(descriptor);
  const std::string text = pattern(10'000);
  write_file(name, text);
  const Result<File> file = File::open(name);
  std::filesystem::remove(name);
  ASSERT_OK(file);
  const std::optional<DirectFile> direct = DirectFile::open(*file);
  if (!direct) return;
  const Result<std::string> all = read_all(*direct, text.size());
  ASSERT_OK(all);
  EXPECT_TRUE(*all == text);
}

}  // namespace
}  // namespace flatbed
