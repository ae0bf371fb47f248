// File and MappedFile: what they open, what they refuse, and what they say when a file changes.
#include "io/file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "io/mapped_file.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::TempDir;
using test::write_file;

TEST(File, ReadsAnyRange) {
  const TempDir dir;
  write_file(dir / "a", "0123456789");
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  EXPECT_EQ(file->size(), 10u);
  EXPECT_EQ(file->path(), dir / "a");

  std::array<std::byte, 4> out{};
  ASSERT_OK(file->read_at(3, out));
  EXPECT_EQ(as_text(out), "3456");
  ASSERT_OK(file->read_at(6, out));
  EXPECT_EQ(as_text(out), "6789");
  EXPECT_OK(file->read_at(10, std::span<std::byte>()));
}

TEST(File, RefusesRangesBeyondItsEnd) {
  const TempDir dir;
  write_file(dir / "a", "0123456789");
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  std::array<std::byte, 4> out{};
  EXPECT_ERROR(file->read_at(7, out), invalid_argument);
  EXPECT_ERROR(file->read_at(UINT64_MAX - 1, out), invalid_argument);
  EXPECT_OK(file->read_at(6, out));
}

TEST(File, OpensAnEmptyFile) {
  const TempDir dir;
  write_file(dir / "a", "");
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  EXPECT_EQ(file->size(), 0u);
}

TEST(File, NamesWhatIsNotThere) {
  const TempDir dir;
  const Result<File> file = File::open(dir / "none");
  EXPECT_ERROR(file, file_not_found);
  EXPECT_NE(file.error().message.find("none'"), std::string::npos);
  write_file(dir / "a", "");
  EXPECT_ERROR(File::open(dir / "a" / "below"), file_not_found);
}

TEST(File, RefusesEverythingButRegularFiles) {
  const TempDir dir;
  EXPECT_ERROR(File::open(dir.path()), not_a_regular_file);
  EXPECT_ERROR(File::open("/dev/zero"), not_a_regular_file);

  // Without a writer a plain open() would block.
  ASSERT_EQ(::mkfifo((dir / "fifo").c_str(), 0600), 0);
  EXPECT_ERROR(File::open(dir / "fifo"), not_a_regular_file);

  const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, (dir / "socket").c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_ERROR(File::open(dir / "socket"), not_a_regular_file);
  ::close(socket);
}

TEST(File, FollowsLinksUnlessToldNot) {
  const TempDir dir;
  write_file(dir / "a", "x");
  std::filesystem::create_symlink("a", dir / "link");
  EXPECT_OK(File::open(dir / "link"));
  EXPECT_ERROR(File::open(dir / "link", {.follow_links = false}), shard_link_refused);
  EXPECT_OK(File::open(dir / "a", {.follow_links = false}));
}

TEST(File, FollowsNoFolderBelowTheOneThatIsNamed) {
  const TempDir dir;
  std::filesystem::create_directories(dir / "real/part");
  write_file(dir / "real/part/a", "a");
  std::filesystem::create_directory_symlink("real", dir / "link");
  std::filesystem::create_directory_symlink("part", dir / "real/other");
  const auto open = [&](const std::filesystem::path& below, const char* name) {
    return File::open(below / name, {.follow_links = false, .below = below});
  };
  EXPECT_OK(open(dir / "real", "part/a"));
  EXPECT_OK(open(dir / "link", "part/a"));
  EXPECT_OK(open(dir / "link/", "part//a"));
  EXPECT_ERROR(open(dir / "link", "other/a"), shard_link_refused);
  EXPECT_ERROR(open(dir.path(), "link/part/a"), shard_link_refused);
  EXPECT_ERROR(open(dir / "real", "part/a/b"), file_not_found);
  EXPECT_ERROR(open(dir / "real", "nothing/a"), file_not_found);
  EXPECT_ERROR(open(dir / "nothing", "a"), file_not_found);
  EXPECT_ERROR(open(dir / "real", "part"), not_a_regular_file);
  EXPECT_OK(File::open(dir / "link/other/a", {.follow_links = true, .below = dir.path()}));
}

TEST(File, RefusesALoopOfLinks) {
  const TempDir dir;
  std::filesystem::create_symlink("loop", dir / "loop");
  EXPECT_ERROR(File::open(dir / "loop"), not_a_regular_file);
  EXPECT_ERROR(File::open(dir / "loop", {.follow_links = false}), shard_link_refused);
}

TEST(File, SaysThatPermissionIsMissing) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may read everything";
  const TempDir dir;
  write_file(dir / "a", "x");
  ::chmod((dir / "a").c_str(), 0);
  EXPECT_ERROR(File::open(dir / "a"), permission_denied);
}

TEST(File, SaysThatDescriptorsHaveRunOut) {
  const TempDir dir;
  write_file(dir / "a", "x");
  // Also for the sanitizer, whose first look at an object of a class needs a descriptor.
  ASSERT_OK(File::open(dir / "a"));
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none = {0, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const Result<File> file = File::open(dir / "a");
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_ERROR(file, resource_exhausted);
}

TEST(File, ReportsAFileThatWasCutShort) {
  const TempDir dir;
  write_file(dir / "a", "0123456789");
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  ASSERT_EQ(::truncate((dir / "a").c_str(), 5), 0);
  std::array<std::byte, 10> out{};
  const Result<void> read = file->read_at(0, out);
  EXPECT_ERROR(read, file_changed);
  EXPECT_NE(read.error().message.find("found 5 bytes, expected 10"), std::string::npos);
  EXPECT_ERROR(MappedFile::map(*file), file_changed);
}

TEST(File, SaysThatMemoryCannotBeWritten) {
  const TempDir dir;
  write_file(dir / "a", std::string(20'000, 'x'));
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* memory =
      ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  ASSERT_EQ(::mprotect(static_cast<std::byte*>(memory) + page, page, PROT_READ), 0);
  const std::span<std::byte> bytes(static_cast<std::byte*>(memory), 2 * page);
  EXPECT_OK(file->read_at(0, bytes.first(page)));
  // Here the kernel fills the first page before it fails.
  const Result<void> half = file->read_at(0, bytes.last(page + 100));
  EXPECT_ERROR(half, destination_invalid);
  EXPECT_NE(half.error().message.find("cannot write to the destination memory"), std::string::npos);
  const std::array parts{bytes.first(page), bytes.last(page)};
  EXPECT_ERROR(file->read_parts(0, parts), destination_invalid);
  EXPECT_ERROR(file->read_at(0, std::span<std::byte>(static_cast<std::byte*>(nullptr), 3)),
               destination_invalid);
  ::munmap(memory, 2 * page);
}

TEST(File, FillsPartsOneBehindTheOther) {
  const TempDir dir;
  write_file(dir / "a", "0123456789");
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  std::array<std::byte, 3> first{};
  std::array<std::byte, 4> second{};
  const std::span<std::byte> none;
  ASSERT_OK(file->read_parts(2, std::array{none, std::span<std::byte>(first), none, none,
                                           std::span<std::byte>(second), none}));
  EXPECT_EQ(as_text(first), "234");
  EXPECT_EQ(as_text(second), "5678");
  EXPECT_OK(file->read_parts(10, std::array{none, none}));
  EXPECT_OK(file->read_parts(10, std::span<const std::span<std::byte>>()));
}

TEST(File, FillsMorePartsThanOneCallTakes) {
  const TempDir dir;
  std::string text;
  for (int i = 0; i < 10'000; ++i) text += static_cast<char>('a' + i * i % 23);
  write_file(dir / "a", text);
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  std::string out(text.size() - 1, '?');
  std::vector<std::span<std::byte>> parts;
  std::span<std::byte> rest = std::as_writable_bytes(std::span(out));
  for (std::size_t i = 0; !rest.empty(); ++i) {  // of 0, 1, 2, 3, 4 bytes and again
    parts.push_back(rest.first(std::min(i % 5, rest.size())));
    rest = rest.subspan(parts.back().size());
  }
  ASSERT_GT(parts.size(), 4'000u);
  ASSERT_OK(file->read_parts(1, parts));
  EXPECT_EQ(out, text.substr(1));
}

TEST(File, RefusesPartsBeyondItsEnd) {
  const TempDir dir;
  write_file(dir / "a", "0123456789");
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  std::array<std::byte, 5> out{};
  const std::span<std::byte> part(out);
  EXPECT_OK(file->read_parts(0, std::array{part, part}));
  EXPECT_ERROR(file->read_parts(1, std::array{part, part}), invalid_argument);
  EXPECT_ERROR(file->read_parts(UINT64_MAX, std::array{part, part}), invalid_argument);
  // Together they are 2^64 bytes; the sum must not come out as 0.
  const std::span<std::byte> half(out.data(), std::size_t{1} << 63);
  EXPECT_ERROR(file->read_parts(0, std::array{half, half}), invalid_argument);
}

TEST(File, ReportsAFileThatWasCutShortInsideAPart) {
  const TempDir dir;
  write_file(dir / "a", "0123456789");
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  ASSERT_EQ(::truncate((dir / "a").c_str(), 7), 0);
  std::array<std::byte, 5> first{};
  std::array<std::byte, 5> second{};
  const Result<void> read =
      file->read_parts(0, std::array{std::span<std::byte>(first), std::span<std::byte>(second)});
  EXPECT_ERROR(read, file_changed);
  EXPECT_NE(read.error().message.find("found 7 bytes, expected 10"), std::string::npos);
  EXPECT_EQ(as_text(second), std::string_view("56\0\0\0", 5));
}

TEST(File, ReadsTheEndOfAHugeSparseFile) {
  const TempDir dir;
  write_file(dir / "a", "");
  constexpr off_t kSize = off_t{1} << 43;  // ext4 ends at 16 TiB
  if (::truncate((dir / "a").c_str(), kSize) != 0) GTEST_SKIP() << "the file system is smaller";
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  std::array<std::byte, 4> out{std::byte{1}};
  ASSERT_OK(file->read_at(kSize - 4, out));
  EXPECT_EQ(as_text(out), std::string_view("\0\0\0\0", 4));
}

TEST(File, MovesItsDescriptor) {
  const TempDir dir;
  write_file(dir / "a", "a");
  write_file(dir / "b", "b");
  File a = File::open(dir / "a").value();
  File b = std::move(a);
  b = File::open(dir / "b").value();
  std::array<std::byte, 1> out{};
  ASSERT_OK(b.read_at(0, out));
  EXPECT_EQ(as_text(out), "b");
}

TEST(MappedFile, ShowsTheWholeFile) {
  const TempDir dir;
  write_file(dir / "a", "0123456789");
  Result<MappedFile> map = MappedFile::map(File::open(dir / "a").value());  // closes the file
  ASSERT_OK(map);
  const MappedFile moved = *std::move(map);
  EXPECT_EQ(as_text(moved.bytes()), "0123456789");
}

TEST(MappedFile, ShowsAnEmptyFile) {
  const TempDir dir;
  write_file(dir / "a", "");
  const Result<MappedFile> map = MappedFile::map(File::open(dir / "a").value());
  ASSERT_OK(map);
  EXPECT_TRUE(map->bytes().empty());
}

}  // namespace
}  // namespace flatbed
