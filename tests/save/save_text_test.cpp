// save_text() and compare_text_output(): what is written, kept, replaced and left.
#include "flatbed/save_text.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "io/leftover.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::read_file;
using test::TempDir;
using test::write_file;
using Names = std::vector<std::string>;

TEST(SaveText, IsUpToDateAfterwards) {
  const TempDir dir;
  EXPECT_EQ(compare_text_output(dir / "a.svg", "text")->kind, OutputKind::absent);
  const Result<SaveReport> report = save_text(dir / "a.svg", "text");
  ASSERT_OK(report);
  EXPECT_EQ(report->nbytes, 4u);
  EXPECT_EQ(compare_text_output(dir / "a.svg", "text")->kind, OutputKind::up_to_date);
  EXPECT_EQ(dir.names(), Names{"a.svg"});
}

TEST(SaveText, SaysHowAnotherFileDiffers) {
  const TempDir dir;
  write_file(dir / "a.svg", "mine");
  EXPECT_EQ(compare_text_output(dir / "a.svg", "text")->difference, "the text differs");
  EXPECT_EQ(compare_text_output(dir / "a.svg", "longer")->difference, "found 4 bytes, expected 6");
  EXPECT_ERROR(compare_text_output(dir.path(), "text"), not_a_regular_file);
}

TEST(SaveText, ReplacesOnlyIfAllowed) {
  const TempDir dir;
  write_file(dir / "a.svg", "mine");
  EXPECT_ERROR(save_text(dir / "a.svg", "text", {.replace = false}), file_exists);
  EXPECT_EQ(read_file(dir / "a.svg"), "mine");
  ASSERT_OK(save_text(dir / "a.svg", "text"));
  EXPECT_EQ(read_file(dir / "a.svg"), "text");
}

TEST(SaveText, RemovesWhatAKilledProcessLeft) {
  const TempDir dir;
  write_file(dir / temporary_name("a.svg"), "half");
  ASSERT_OK(save_text(dir / "a.svg", "text"));
  EXPECT_EQ(dir.names(), Names{"a.svg"});
}

}  // namespace
}  // namespace flatbed
