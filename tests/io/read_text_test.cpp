// read_text(): a file within the limit, and one that is too large.
#include "io/read_text.hpp"

#include <gtest/gtest.h>

#include "io/file.hpp"
#include "support/expect_error.hpp"
#include "support/expect_message.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

TEST(ReadText, GivesAFileOfTheLimitWhole) {
  const test::TempDir dir;
  test::write_file(dir / "a", "four");
  test::write_file(dir / "none", "");
  EXPECT_EQ(*read_text(File::open(dir / "a").value(), {4, "the index"}), "four");
  EXPECT_EQ(*read_text(File::open(dir / "none").value(), {0, "the index"}), "");
}

TEST(ReadText, RefusesALargerFile) {
  const test::TempDir dir;
  test::write_file(dir / "a", "four");
  const File file = File::open(dir / "a").value();
  const auto refused = read_text(file, {3, "the index"});
  EXPECT_ERROR(refused, limit_exceeded);
  EXPECT_EQ(refused.error().message, "the index is too large: found 4 bytes, the limit is 3");
  EXPECT_ERROR(read_text(file, {3, "the sidecar", ErrorCode::sidecar_malformed}),
               sidecar_malformed);
}

}  // namespace
}  // namespace flatbed
