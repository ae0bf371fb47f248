// File and MappedFile: what they open, what they refuse, and what they say when a file changes.
#include "io/file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>
#include <utility>

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
  EXPECT_OK(file->read_at(10, {}));
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
  std::filesystem::create_symlink("loop", dir / "loop");
  EXPECT_ERROR(File::open(dir / "loop"), io_error);
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
  EXPECT_NE(read.error().message.find("ends at byte 5, had 10 bytes"), std::string::npos);
  EXPECT_ERROR(MappedFile::map(*file), file_changed);
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
