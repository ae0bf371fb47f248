// What pruning keeps and removes, and what it never touches.
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
using test::put_set;
using test::small_plan;
using test::statement_of;
using test::steps_in;
using test::steps_of;
using test::TempDir;
using test::write_file;
using Names = std::vector<std::string>;
using Steps = std::vector<std::uint64_t>;

std::string name_of(std::uint64_t step) { return "step-" + std::to_string(step) + ".safetensors"; }

// Steps 1, 2, 3 ... with these scores.
void put_scores(const TempDir& dir, const std::vector<double>& scores) {
  for (std::uint64_t i = 1; i <= scores.size(); ++i)
    put(dir / name_of(i), statement_of(i, i, scores[i - 1]));
}

Steps kept(const std::vector<double>& scores, const SeriesOptions& options) {
  const TempDir dir;
  put_scores(dir, scores);
  const Result<PruneReport> planned = open_series(dir.path(), options).prune(true);
  EXPECT_OK(planned);
  EXPECT_EQ(dir.names().size(), scores.size());
  const Result<PruneReport> pruned = open_series(dir.path(), options).prune();
  EXPECT_OK(pruned);
  EXPECT_EQ(steps_of(planned->removed), steps_of(pruned->removed));
  EXPECT_EQ(steps_of(planned->kept), steps_of(pruned->kept));
  EXPECT_EQ(pruned->notes, Names{});
  EXPECT_EQ(steps_in(dir.path()), steps_of(pruned->kept));
  return steps_of(pruned->kept);
}

TEST(SeriesPrune, WithoutLimitsEverythingIsKept) {
  EXPECT_EQ(kept({4, 3, 2, 1}, {}), (Steps{1, 2, 3, 4}));
  EXPECT_EQ(kept({4, 3, 2, 1}, {.keep_best = 2}), (Steps{1, 2, 3, 4}));
}

TEST(SeriesPrune, KeepsTheLastAndTheBest) {
  EXPECT_EQ(kept({1, 2, 3, 4, 5}, {.keep_last = 2}), (Steps{1, 4, 5}));
  EXPECT_EQ(kept({1, 2, 3, 4, 5}, {.keep_last = 2, .keep_best = 0}), (Steps{4, 5}));
  EXPECT_EQ(kept({1, 2, 3, 4, 5}, {.keep_last = 1, .keep_best = 3}), (Steps{1, 2, 3, 5}));
  EXPECT_EQ(kept({2, 1, 1, 2}, {.keep_last = 1}), (Steps{2, 4}));
  EXPECT_EQ(kept({1, 2}, {.keep_last = 9}), (Steps{1, 2}));
}

TEST(SeriesPrune, KeepsEveryNthStepAndTheLatest) {
  EXPECT_EQ(kept({5, 4, 3, 2, 1, 0, 1}, {.keep_best = 0, .keep_every = 3}), (Steps{3, 6, 7}));
  EXPECT_EQ(kept({5, 4, 3, 2, 1, 0, 1}, {.keep_last = 2, .keep_every = 4}), (Steps{4, 6, 7}));
}

TEST(SeriesPrune, HappensAfterEverySave) {
  const TempDir dir;
  Series series = open_series(dir.path(), {.metric = "loss", .keep_last = 2});
  for (std::uint64_t step = 1; step <= 6; ++step) {
    const Result<SeriesSave> saved =
        series.save(small_plan(), {.step = step, .score = step == 2 ? 0.0 : 1.0});
    ASSERT_OK(saved);
    EXPECT_EQ(saved->notes, Names{});
    if (step == 6) {
      EXPECT_EQ(steps_of(saved->pruned), Steps{4});
    }
  }
  EXPECT_EQ(steps_in(dir.path()), (Steps{2, 5, 6}));
}

TEST(SeriesPrune, ADamagedOneIsNeitherCountedNorRemoved) {
  const TempDir dir;
  put_scores(dir, {5, 0, 4, 3, 2});
  fs::resize_file(dir / name_of(5), 4096);
  fs::resize_file(dir / name_of(2), 4096);
  const Result<PruneReport> pruned = open_series(dir.path(), {.keep_last = 1}).prune();
  ASSERT_OK(pruned);
  EXPECT_EQ(steps_in(dir.path()), (Steps{2, 4, 5}));
  EXPECT_EQ(steps_of(pruned->removed), (Steps{1, 3}));
  EXPECT_EQ(pruned->notes.size(), 2U);
}

TEST(SeriesPrune, WithoutAWholeOneNothingIsRemoved) {
  const TempDir dir;
  put_scores(dir, {3, 2, 1});
  for (const std::uint64_t step : {1U, 2U, 3U}) fs::resize_file(dir / name_of(step), 4096);
  const Result<PruneReport> pruned = open_series(dir.path(), {.keep_last = 1}).prune();
  ASSERT_OK(pruned);
  EXPECT_EQ(pruned->removed.size(), 0U);
  EXPECT_EQ(dir.names().size(), 3U);
}

TEST(SeriesPrune, WhatIsNotOfTheSeriesStays) {
  const TempDir dir;
  put_scores(dir, {3, 2, 1});
  write_file(dir / "step-000000000001.safetensors", "mine");
  write_file(dir / "notes.txt", "mine");
  ASSERT_OK(open_series(dir.path(), {.keep_last = 1}).prune());
  EXPECT_EQ(dir.names(), (Names{"notes.txt", "step-000000000001.safetensors", name_of(3)}));
}

TEST(SeriesPrune, WhatTheUserNamedStays) {
  const TempDir dir;
  put_scores(dir, {3, 2, 1});
  fs::rename(dir / name_of(1), dir / "mine.safetensors");
  fs::copy_file(dir / name_of(2), dir / "a copy.safetensors");
  fs::copy_file(dir / name_of(2), dir / "step-2.sequence-2.safetensors");
  for (const char* name : {"step-", "step-x", "step-2.sequence-", "step-2.sequence-2.3", "Step-2"})
    fs::copy_file(dir / name_of(2), dir / (std::string(name) + ".safetensors"));
  const Result<PruneReport> pruned = open_series(dir.path(), {.keep_last = 1}).prune();
  ASSERT_OK(pruned);
  EXPECT_EQ(steps_of(pruned->removed), (Steps{2, 2}));
  EXPECT_EQ(steps_of(pruned->kept), (Steps{1, 2, 3}));
  EXPECT_EQ(dir.names(),
            (Names{"Step-2.safetensors", "a copy.safetensors", "mine.safetensors",
                   "step-.safetensors", "step-2.sequence-.safetensors",
                   "step-2.sequence-2.3.safetensors", name_of(3), "step-x.safetensors"}));
}

TEST(SeriesPrune, SetsAreRemovedWithTheirFiles) {
  const TempDir dir;
  Series series = open_series(dir.path(), {.keep_last = 1, .max_shard_nbytes = 4});
  for (std::uint64_t step = 1; step <= 3; ++step)
    ASSERT_OK(series.save(parts_of("01234567"), {.step = step}));
  EXPECT_EQ(dir.names(), Names{"step-000000000003"});
}

TEST(SeriesPrune, ASetWithSomethingElseInItStays) {
  const TempDir dir;
  put_set(dir / "step-1", statement_of(1, 1));
  put_set(dir / "step-2", statement_of(2, 2));
  put_set(dir / "step-3", statement_of(3, 3));
  write_file(dir / "step-1" / "config.json", "{}");
  const Result<PruneReport> pruned = open_series(dir.path(), {.keep_last = 1}).prune();
  ASSERT_OK(pruned);
  EXPECT_EQ(steps_of(pruned->removed), Steps{2});
  EXPECT_EQ(steps_of(pruned->kept), (Steps{1, 3}));
  ASSERT_EQ(pruned->notes.size(), 1U);
  EXPECT_NE(pruned->notes[0].find("config.json"), std::string::npos);
  EXPECT_EQ(dir.names(), (Names{"step-1", "step-3"}));
}

TEST(SeriesPrune, WithoutAFolderThereIsNothingToPrune) {
  const TempDir dir;
  EXPECT_ERROR(open_series(dir / "none").prune(), file_not_found);
}

}  // namespace
}  // namespace flatbed
