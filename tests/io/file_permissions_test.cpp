// permissions_of(): the permissions that a new file can inherit.
#include "io/file_permissions.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.hpp"
#include "support/bytes_source.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

TEST(FilePermissions, AreTheLowerNineBitsAndTheGroup) {
  const test::TempDir dir;
  test::write_file(dir / "a", "x");
  ASSERT_EQ(::chmod((dir / "a").c_str(), 06640), 0);
  const auto permissions = permissions_of(File::open(dir / "a").value());
  ASSERT_OK(permissions);
  ASSERT_TRUE(*permissions);
  EXPECT_EQ((*permissions)->bits, 0640u);
  EXPECT_EQ((*permissions)->group, ::getegid());
}

TEST(FilePermissions, OfMemoryAreNone) {
  const test::BytesSource source("bytes");
  EXPECT_FALSE(permissions_of(source).value().has_value());
}

}  // namespace
}  // namespace flatbed
