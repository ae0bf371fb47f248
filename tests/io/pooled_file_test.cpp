// File in a DescriptorPool: opened again when it is needed, and only if it is the same file; and
// File::of_descriptor().
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>

#include "io/file.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

namespace fs = std::filesystem;
using test::TempDir;
using test::write_file;

Result<std::string> read_all(const File& file) {
  std::string out(static_cast<std::size_t>(file.size()), '?');
  FLATBED_TRY(file.read_at(0, std::as_writable_bytes(std::span(out))));
  return out;
}

// Two files that share a pool for one descriptor; reading one closes the other.
class PooledFile : public testing::Test {
 protected:
  void SetUp() override {
    write_file(dir_ / "a", "aaaa");
    write_file(dir_ / "b", "bbbb");
    a_ = std::make_unique<File>(File::open(dir_ / "a", {.pool = pool_}).value());
    b_ = std::make_unique<File>(File::open(dir_ / "b", {.pool = pool_}).value());
  }

  TempDir dir_;
  std::shared_ptr<DescriptorPool> pool_ = std::make_shared<DescriptorPool>(1);
  std::unique_ptr<File> a_, b_;
};

TEST_F(PooledFile, IsOpenedAgainWhenItIsNeeded) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(read_all(*a_).value(), "aaaa");
    EXPECT_EQ(read_all(*b_).value(), "bbbb");
  }
  EXPECT_OK(a_->check_unchanged());
  EXPECT_OK(b_->check_unchanged());
}

TEST_F(PooledFile, IsReadWhileItIsOpenEvenIfItWasRemoved) {
  fs::remove(dir_ / "b");
  EXPECT_EQ(read_all(*b_).value(), "bbbb");
}

TEST_F(PooledFile, IsNotOpenedAgainAfterItWasReplaced) {
  write_file(dir_ / "new", "AAAA");
  fs::rename(dir_ / "new", dir_ / "a");
  const auto read = read_all(*a_);
  EXPECT_ERROR(read, file_changed);
  EXPECT_NE(read.error().message.find((dir_ / "a").native()), std::string::npos);
  EXPECT_ERROR(a_->check_unchanged(), file_changed);
  EXPECT_EQ(read_all(*b_).value(), "bbbb");
}

TEST_F(PooledFile, IsNotOpenedAgainAfterItWasWrittenOrRemoved) {
  write_file(dir_ / "a", "aaaaa");
  EXPECT_ERROR(read_all(*a_), file_changed);
  fs::remove(dir_ / "a");
  EXPECT_ERROR(read_all(*a_), file_changed);
  fs::create_directory(dir_ / "a");
  EXPECT_ERROR(read_all(*a_), file_changed);
}

TEST_F(PooledFile, DoesNotFollowALinkThatCameLater) {
  const File file = File::open(dir_ / "a", {.follow_links = false, .pool = pool_}).value();
  EXPECT_EQ(read_all(*b_).value(), "bbbb");
  fs::rename(dir_ / "a", dir_ / "c");
  fs::create_symlink(dir_ / "c", dir_ / "a");
  EXPECT_ERROR(read_all(file), file_changed);
}

TEST_F(PooledFile, DoesNotFollowALinkedFolderThatCameLater) {
  fs::create_directory(dir_ / "part");
  write_file(dir_ / "part/c", "cccc");
  const FileOptions options{.follow_links = false, .pool = pool_, .below = dir_.path()};
  const File file = File::open(dir_ / "part/c", options).value();
  EXPECT_EQ(read_all(*b_).value(), "bbbb");
  EXPECT_EQ(read_all(file).value(), "cccc");
  EXPECT_EQ(read_all(*b_).value(), "bbbb");
  fs::rename(dir_ / "part", dir_ / "moved");
  fs::create_directory_symlink("moved", dir_ / "part");
  EXPECT_ERROR(read_all(file), file_changed);
}

TEST_F(PooledFile, LeasesStayOpen) {
  const DescriptorLease lease = b_->descriptor().value();
  EXPECT_EQ(read_all(*a_).value(), "aaaa");
  char byte = '?';
  EXPECT_EQ(::pread(lease.get(), &byte, 1, 0), 1);
  EXPECT_EQ(byte, 'b');
}

TEST(FileOfDescriptor, HasADescriptorOfItsOwn) {
  const TempDir dir;
  write_file(dir / "a", "0123");
  const int descriptor = ::open((dir / "a").c_str(), O_RDONLY | O_CLOEXEC);
  const Result<File> file = File::of_descriptor(descriptor, "the model");
  ::close(descriptor);
  ASSERT_OK(file);
  EXPECT_EQ(file->label(), "the model");
  EXPECT_EQ(read_all(*file).value(), "0123");
  EXPECT_OK(file->check_unchanged());
}

TEST(FileOfDescriptor, RefusesWhatIsNoRegularFile) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const auto pipe = File::of_descriptor(ends[0], "the pipe");
  EXPECT_ERROR(pipe, not_a_regular_file);
  EXPECT_NE(pipe.error().message.find("the pipe"), std::string::npos);
  ::close(ends[0]);
  ::close(ends[1]);
  EXPECT_ERROR(File::of_descriptor(-1, "none"), io_error);
}

TEST(FileOpen, FindsNoFileWhoseNameIsTooLong) {
  const TempDir dir;
  EXPECT_ERROR(File::open(dir / std::string(300, 'n')), file_not_found);
}

}  // namespace
}  // namespace flatbed
