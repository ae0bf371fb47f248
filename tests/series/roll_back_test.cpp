// After roll_back() the series ends at the step, and nothing is lost.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "flatbed/series.hpp"
#include "support/expect_error.hpp"
#include "support/series_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

namespace fs = std::filesystem;
using test::open_series;
using test::parts_of;
using test::put;
using test::small_plan;
using test::statement_of;
using test::steps_in;
using test::steps_of;
using test::TempDir;
using test::write_file;
using Steps = std::vector<std::uint64_t>;

void save_steps(Series& series, const Steps& steps) {
  for (const std::uint64_t step : steps) ASSERT_OK(series.save(small_plan(), {.step = step}));
}

TEST(SeriesRollBack, MovesWhatComesLaterAside) {
  const TempDir dir;
  Series series = open_series(dir.path());
  save_steps(series, {10, 20, 30});
  const Result<RollBackReport> report = series.roll_back(10);
  ASSERT_OK(report);
  EXPECT_EQ(report->latest.step, 10U);
  EXPECT_EQ(steps_of(report->moved), (Steps{30, 20}));
  EXPECT_EQ(report->moved[0].path, dir / "abandoned" / "step-000000000030.sequence-3.safetensors");
  EXPECT_OK(Series::open_entry(report->moved[0]));
  EXPECT_EQ(steps_in(dir.path()), Steps{10});
  EXPECT_EQ(steps_in(dir / "abandoned"), (Steps{20, 30}));
}

TEST(SeriesRollBack, TheNextSaveFollowsWithANewNumber) {
  const TempDir dir;
  {
    Series series = open_series(dir.path());
    save_steps(series, {10, 20, 30});
    ASSERT_OK(series.roll_back(10));
  }
  Series series = open_series(dir.path());
  const Result<SeriesSave> saved = series.save(small_plan(), {.step = 20});
  ASSERT_OK(saved);
  EXPECT_EQ(saved->entry.sequence, 4U);
  EXPECT_EQ(saved->entry.parent, series.at(10)->content);
  ASSERT_OK(series.roll_back(10));
  EXPECT_EQ(series.save(small_plan(), {.step = 20})->entry.sequence, 5U);
  EXPECT_EQ(steps_in(dir / "abandoned"), (Steps{20, 30, 20}));
}

TEST(SeriesRollBack, ToTheLatestMovesNothing) {
  const TempDir dir;
  Series series = open_series(dir.path());
  save_steps(series, {10, 20});
  EXPECT_EQ(series.roll_back(20)->moved.size(), 0U);
  EXPECT_FALSE(fs::exists(dir / "abandoned"));
}

TEST(SeriesRollBack, ToAStepThatIsNotThereOrDoesNotOpenMovesNothing) {
  const TempDir dir;
  Series series = open_series(dir.path());
  save_steps(series, {10, 20});
  EXPECT_ERROR(series.roll_back(15), step_not_found);
  fs::resize_file(dir / "step-000000000010.safetensors", 4096);
  EXPECT_ERROR(series.roll_back(10), data_truncated);
  EXPECT_EQ(steps_in(dir.path()), (Steps{10, 20}));
  EXPECT_FALSE(fs::exists(dir / "abandoned"));
}

TEST(SeriesRollBack, MovesSetsCopiesAndDamagedOnes) {
  const TempDir dir;
  save_steps(*std::make_unique<Series>(open_series(dir.path())), {10, 20, 30});
  ASSERT_OK(
      open_series(dir.path(), {.max_shard_nbytes = 4}).save(parts_of("01234567"), {.step = 40}));
  fs::copy_file(dir / "step-000000000020.safetensors", dir / "copy.safetensors");
  fs::resize_file(dir / "step-000000000030.safetensors", 4096);
  const Result<RollBackReport> report = open_series(dir.path()).roll_back(10);
  ASSERT_OK(report);
  EXPECT_EQ(steps_of(report->moved), (Steps{40, 30, 20, 20}));
  EXPECT_TRUE(fs::is_directory(dir / "abandoned" / "step-000000000040.sequence-4"));
  EXPECT_EQ(steps_in(dir.path()), Steps{10});
  EXPECT_EQ(dir.names().size(), 2U);
}

TEST(SeriesRollBack, ReplacesNothing) {
  const TempDir dir;
  fs::create_directory(dir / "abandoned");
  const fs::path mine = dir / "abandoned" / "step-000000000020.sequence-2.safetensors";
  write_file(mine, "mine");
  Series series = open_series(dir.path());
  save_steps(series, {10, 20});
  const Result<RollBackReport> report = series.roll_back(10);
  ASSERT_OK(report);
  EXPECT_EQ(report->moved[0].path,
            dir / "abandoned" / "step-000000000020.sequence-2.2.safetensors");
  EXPECT_EQ(test::read_file(mine), "mine");
}

TEST(SeriesRollBack, AbandonedThatIsNoFolderIsRefused) {
  const TempDir dir;
  Series series = open_series(dir.path());
  save_steps(series, {10, 20});
  write_file(dir / "abandoned", "mine");
  EXPECT_ERROR(series.roll_back(10), not_a_regular_file);
  fs::remove(dir / "abandoned");
  fs::create_directory(dir / "elsewhere");
  fs::create_directory_symlink("elsewhere", dir / "abandoned");
  EXPECT_ERROR(series.roll_back(10), not_a_regular_file);
  EXPECT_EQ(steps_in(dir.path()), (Steps{10, 20}));
}

}  // namespace
}  // namespace flatbed
