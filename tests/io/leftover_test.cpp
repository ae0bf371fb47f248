// Names of temporaries, and the removal of those that nobody writes any more.
#include "io/leftover.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "io/descriptor.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::TempDir;
using test::write_file;
using Names = std::vector<std::string>;

void remove_in(const TempDir& dir) {
  const Descriptor open(::open(dir.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  remove_leftovers(open.get());
}

TEST(Leftover, NamesAreRecognized) {
  EXPECT_TRUE(is_temporary_name(temporary_name("a")));
  EXPECT_TRUE(is_temporary_name(temporary_name(std::string(255, 'n'))));
  EXPECT_LE(temporary_name(std::string(255, 'n')).size(), 255u);
  EXPECT_NE(temporary_name("a"), temporary_name("a"));
  EXPECT_TRUE(is_temporary_name(".a.0123456789abcdef0123456789abcdef.flatbed.tmp"));
}

TEST(Leftover, NamesOfOthersAreNot) {
  for (const char* name : {"", ".", "a", "a.0123456789abcdef0123456789abcdef.flatbed.tmp",
                           ".a.0123456789abcdef0123456789abcdef.tmp",
                           ".a.0123456789ABCDEF0123456789abcdef.flatbed.tmp",
                           ".a.123456789abcdef0123456789abcdef.flatbed.tmp",
                           ".a-0123456789abcdef0123456789abcdef.flatbed.tmp",
                           ".0123456789abcdef0123456789abcdef.flatbed.tmp", ".flatbed.tmp"})
    EXPECT_FALSE(is_temporary_name(name)) << name;
}

TEST(Leftover, WithAFreeLockIsRemoved) {
  const TempDir dir;
  write_file(dir / temporary_name("a"), "left");
  write_file(dir / temporary_name("b"), "");
  write_file(dir / ".mine.tmp", "mine");
  remove_in(dir);
  EXPECT_EQ(dir.names(), Names{".mine.tmp"});
}

TEST(Leftover, ThatMayOnlyBeReadIsRemoved) {
  const TempDir dir;
  const std::string name = temporary_name("a");
  write_file(dir / name, "left");
  ASSERT_EQ(::chmod((dir / name).c_str(), 0400), 0);
  remove_in(dir);
  EXPECT_TRUE(dir.names().empty());
}

TEST(Leftover, ThatIsStillWrittenStays) {
  const TempDir dir;
  const std::string name = temporary_name("a");
  write_file(dir / name, "new");
  {
    const Descriptor writer(::open((dir / name).c_str(), O_WRONLY | O_CLOEXEC));
    ASSERT_TRUE(lock_temporary(writer.get()));
    const Descriptor other(::open((dir / name).c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_FALSE(lock_temporary(other.get()));
    remove_in(dir);
    EXPECT_EQ(dir.names(), Names{name});
  }
  remove_in(dir);
  EXPECT_TRUE(dir.names().empty());
}

TEST(Leftover, OnlyFilesAndFoldersOfSetsAreRemoved) {
  const TempDir dir;
  const std::string link = temporary_name("link");
  const std::string folder = temporary_name("folder");
  const std::string fifo = temporary_name("fifo");
  write_file(dir / "real", "mine");
  std::filesystem::create_symlink("real", dir / link);
  std::filesystem::create_directory(dir / folder);
  write_file(dir / folder / "notes.txt", "mine");
  std::filesystem::create_directory(dir / temporary_name("set"));
  write_file(dir / folder / "model.safetensors", "half");
  ASSERT_EQ(::mkfifo((dir / fifo).c_str(), 0600), 0);
  remove_in(dir);
  EXPECT_EQ(dir.names().size(), 4u);
  EXPECT_TRUE(std::filesystem::exists(dir / folder / "model.safetensors"));
}

}  // namespace
}  // namespace flatbed
