// write_file(): what every writer begins and ends with.
#include "save/write_file.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::read_file;
using test::TempDir;
using Names = std::vector<std::string>;

Result<void> write_new(AtomicFile& file) { return file.write_at(0, as_bytes("new")); }

TEST(WriteFile, CommitsWhatTheWriterWrote) {
  const TempDir dir;
  test::write_file(dir / "out", "old");
  SaveReport report;
  report.nbytes = 3;
  EXPECT_OK(flatbed::write_file({dir / "out", {}}, {}, report, write_new));
  EXPECT_EQ(read_file(dir / "out"), "new");
  EXPECT_EQ(report.durability, Durability::committed);
  EXPECT_EQ(report.durability_note, "");
}

TEST(WriteFile, SaysWhyDurabilityIsUnknown) {
  const TempDir dir;
  SaveReport report;
  report.nbytes = 3;
  EXPECT_OK(flatbed::write_file({dir / "out", {}}, {.sync = false}, report, write_new));
  EXPECT_EQ(report.durability, Durability::durability_unknown);
  EXPECT_EQ(report.durability_note, "not synced, as requested");
}

TEST(WriteFile, LeavesTheTargetAsItWasAfterAnErrorOfTheWriter) {
  const TempDir dir;
  test::write_file(dir / "out", "old");
  SaveReport report;
  report.nbytes = 3;
  const auto fails = [](AtomicFile& file) -> Result<void> {
    FLATBED_TRY(write_new(file));
    return Error{ErrorCode::chunk_corrupt, "no"};
  };
  EXPECT_ERROR(flatbed::write_file({dir / "out", {}}, {}, report, fails), chunk_corrupt);
  EXPECT_EQ(read_file(dir / "out"), "old");
  EXPECT_EQ(dir.names(), Names{"out"});
}

}  // namespace
}  // namespace flatbed
