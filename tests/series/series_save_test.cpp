// Saving into a series: what each checkpoint states, what is refused, and who may write.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "flatbed/series.hpp"
#include "support/expect_error.hpp"
#include "support/series_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

namespace fs = std::filesystem;
using test::latest_step;
using test::open_series;
using test::parts_of;
using test::put;
using test::read_file;
using test::small_plan;
using test::statement_of;
using test::steps_in;
using test::TempDir;
using test::write_file;
using Names = std::vector<std::string>;
using Steps = std::vector<std::uint64_t>;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(SeriesSave, EachCheckpointFollowsTheOneBefore) {
  const TempDir dir;
  const fs::path folder = dir / "run";
  Series series = open_series(folder, {.metric = "accuracy", .mode = ScoreMode::max});
  EXPECT_EQ(dir.names(), Names{});
  const Result<SeriesSave> first = series.save(small_plan(), {.step = 10, .score = 0.5});
  ASSERT_OK(first);
  EXPECT_EQ(first->entry.path, folder / "step-000000000010.safetensors");
  EXPECT_EQ(first->entry.sequence, 1U);
  EXPECT_EQ(first->entry.parent, "");
  EXPECT_EQ(first->files.durability, Durability::committed);
  EXPECT_EQ(first->notes, Names{});
  const Result<SeriesSave> second = series.save(small_plan(), {.step = 20});
  ASSERT_OK(second);
  EXPECT_EQ(second->entry.sequence, 2U);
  EXPECT_EQ(second->entry.parent, first->entry.content);
  const Result<SeriesListing> listing = series.list();
  ASSERT_OK(listing);
  EXPECT_EQ(listing->metric, "accuracy");
  EXPECT_EQ(listing->mode, ScoreMode::max);
  ASSERT_EQ(listing->entries.size(), 2U);
  EXPECT_EQ(listing->entries[1].path, second->entry.path);
  EXPECT_EQ(listing->entries[1].content, second->entry.content);
  EXPECT_EQ(listing->entries[1].nbytes, second->entry.nbytes);
  EXPECT_EQ(listing->entries[1].saved_at, second->entry.saved_at);
  EXPECT_EQ(series.latest()->step, 20U);
  EXPECT_EQ(series.best()->step, 10U);
}

TEST(SeriesSave, StatesTheTimeAndTheEpoch) {
  const TempDir dir;
  SavePlan plan = small_plan();
  const NodeId root = plan.tree.add_dict();
  plan.tree.set_item(root, plan.tree.add_string("epoch"), plan.tree.add_integer(-3));
  plan.tree.set_root(root);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const Result<SeriesSave> saved = open_series(dir.path()).save(plan, {.step = 1});
  ASSERT_OK(saved);
  EXPECT_EQ(saved->entry.epoch, -3);
  EXPECT_GE(saved->entry.saved_at, now / std::chrono::milliseconds(1) - 1);
  EXPECT_LT(saved->entry.saved_at, now / std::chrono::milliseconds(1) + 600'000);
}

TEST(SeriesSave, AnEpochThatIsNoSmallIntegerIsNotStated) {
  const TempDir dir;
  Series series = open_series(dir.path());
  std::uint64_t step = 0;
  const auto epoch_of = [&](NodeId (*add)(ValueTree&)) {
    SavePlan plan = small_plan();
    const NodeId root = plan.tree.add_dict();
    const NodeId value = add(plan.tree);
    plan.tree.set_item(root, plan.tree.add_string("epoch"), value);
    plan.tree.set_root(root);
    return series.save(plan, {.step = ++step})->entry.epoch;
  };
  EXPECT_EQ(epoch_of([](ValueTree& tree) { return tree.add_integer(3); }), 3);
  EXPECT_EQ(epoch_of([](ValueTree& tree) { return tree.add_integer(INT64_MAX); }), std::nullopt);
  EXPECT_EQ(epoch_of([](ValueTree& tree) { return tree.add_real(3); }), std::nullopt);
  EXPECT_EQ(epoch_of([](ValueTree& tree) { return tree.add_boolean(true); }), std::nullopt);
  EXPECT_EQ(epoch_of([](ValueTree& tree) { return tree.add_string("3"); }), std::nullopt);
}

TEST(SeriesSave, AStepThatIsNotLaterIsRefused) {
  const TempDir dir;
  Series series = open_series(dir.path());
  ASSERT_OK(series.save(small_plan(), {.step = 10}));
  const Names names = dir.names();
  EXPECT_ERROR(series.save(small_plan(), {.step = 10}), step_not_after);
  EXPECT_ERROR(series.save(small_plan(), {.step = 9}), step_not_after);
  EXPECT_EQ(dir.names(), names);
  EXPECT_OK(series.save(small_plan(), {.step = 11}));
  EXPECT_ERROR(series.save(small_plan(), {.step = kMaxSequence + 1}), invalid_argument);
  EXPECT_OK(series.save(small_plan(), {.step = kMaxSequence}));
}

TEST(SeriesSave, TheFirstMetricStays) {
  const TempDir dir;
  {
    Series series = open_series(dir.path());
    ASSERT_OK(series.save(small_plan(), {.step = 1}));
    EXPECT_ERROR(series.save(small_plan(), {.step = 2, .score = 0.5}), invalid_argument);
  }
  {
    Series series = open_series(dir.path(), {.metric = "loss"});
    ASSERT_OK(series.save(small_plan(), {.step = 2, .score = 0.5}));
  }
  {
    Series series = open_series(dir.path());
    ASSERT_OK(series.save(small_plan(), {.step = 3, .score = kNan}));
    EXPECT_EQ(series.best()->step, 2U);
    EXPECT_EQ(series.list()->notes, Names{});
  }
  EXPECT_ERROR(Series::open(dir.path(), {.metric = "accuracy"}), series_mismatch);
}

TEST(SeriesSave, AMetricThatCameMeanwhileIsFoundOut) {
  const TempDir dir;
  Series series = open_series(dir.path(), {.metric = "accuracy"});
  put(dir / "a.safetensors", statement_of(1, 1, 0.5));
  EXPECT_ERROR(series.save(small_plan(), {.step = 2}), series_mismatch);
  EXPECT_EQ(dir.names(), Names{"a.safetensors"});
}

TEST(SeriesSave, AnotherWriterIsRefusedUntilTheFirstIsGone) {
  const TempDir dir;
  std::optional<Series> first = open_series(dir.path());
  ASSERT_OK(first->save(small_plan(), {.step = 1}));
  Series second = open_series(dir.path());
  EXPECT_ERROR(second.save(small_plan(), {.step = 2}), series_locked);
  EXPECT_ERROR(second.prune(), series_locked);
  EXPECT_ERROR(second.roll_back(1), series_locked);
  EXPECT_ERROR(second.save_async(small_plan(), {.step = 2})->wait(), series_locked);
  EXPECT_OK(second.prune(true));
  EXPECT_EQ(second.latest()->step, 1U);
  Series moved = *std::move(first);
  first.reset();
  EXPECT_ERROR(second.save(small_plan(), {.step = 2}), series_locked);
  moved = open_series(dir / "elsewhere");
  EXPECT_OK(second.save(small_plan(), {.step = 2}));
}

TEST(SeriesSave, SetsAreFoldersWhateverTheirSize) {
  const TempDir dir;
  Series series = open_series(dir.path(), {.max_shard_nbytes = 4});
  const Result<SeriesSave> first = series.save(parts_of("01234567"), {.step = 1});
  ASSERT_OK(first);
  EXPECT_TRUE(first->entry.is_set);
  ASSERT_OK(series.save(parts_of("0123"), {.step = 2}));
  EXPECT_EQ(dir.names(), (Names{"step-000000000001", "step-000000000002"}));
  const Result<SeriesListing> listing = series.list();
  ASSERT_EQ(listing->entries.size(), 2U);
  EXPECT_EQ(listing->entries[0].content, first->entry.content);
  EXPECT_EQ(listing->entries[0].nbytes, first->entry.nbytes);
  EXPECT_EQ(listing->entries[1].parent, first->entry.content);
  EXPECT_EQ(listing->notes, Names{});
  EXPECT_EQ(series.latest()->step, 2U);
  // Files and sets mix.
  EXPECT_ERROR(open_series(dir.path()).save(small_plan(), {.step = 3}), series_locked);
  series = open_series(dir / "other");
  EXPECT_OK(open_series(dir.path()).save(small_plan(), {.step = 3}));
  EXPECT_EQ(steps_in(dir.path()), (Steps{1, 2, 3}));
}

TEST(SeriesSave, TheNameOfADamagedCheckpointOfTheStepIsLeftToIt) {
  const TempDir dir;
  Series series = open_series(dir.path());
  ASSERT_OK(series.save(small_plan(), {.step = 1}));
  ASSERT_OK(series.save(small_plan(), {.step = 2}));
  fs::resize_file(dir / "step-000000000002.safetensors", 4096);
  const Result<SeriesSave> again = series.save(small_plan(), {.step = 2});
  ASSERT_OK(again);
  EXPECT_EQ(again->entry.path, dir / "step-000000000002.sequence-3.safetensors");
  EXPECT_EQ(fs::file_size(dir / "step-000000000002.safetensors"), 4096U);
  EXPECT_EQ(series.at(2)->sequence, 3U);
}

TEST(SeriesSave, NothingOfTheUsersIsReplaced) {
  const TempDir dir;
  write_file(dir / "step-000000000001.safetensors", "mine");
  write_file(dir / "step-000000000001.sequence-1.safetensors", "also mine");
  Series series = open_series(dir.path());
  EXPECT_ERROR(series.save(small_plan(), {.step = 1}), file_exists);
  EXPECT_EQ(read_file(dir / "step-000000000001.safetensors"), "mine");
  EXPECT_EQ(read_file(dir / "step-000000000001.sequence-1.safetensors"), "also mine");
  EXPECT_EQ(dir.names().size(), 2U);
}

TEST(SeriesSave, LongStepsHaveLongNames) {
  const TempDir dir;
  Series series = open_series(dir.path());
  ASSERT_OK(series.save(small_plan(), {.step = 1234567890123}));
  EXPECT_EQ(dir.names(), Names{"step-1234567890123.safetensors"});
}

TEST(SeriesSave, AfterTheLastNumberThereIsNone) {
  const TempDir dir;
  put(dir / "a.safetensors", statement_of(kMaxSequence, 1));
  EXPECT_ERROR(open_series(dir.path()).save(small_plan(), {.step = 2}), limit_exceeded);
}

TEST(SeriesSave, AFaultOfThePlanChangesNothing) {
  const TempDir dir;
  Series series = open_series(dir.path());
  ASSERT_OK(series.save(small_plan(), {.step = 1}));
  SavePlan plan = small_plan();
  plan.items[0].shape = {11};
  EXPECT_ERROR(series.save(plan, {.step = 2}), shape_mismatch);
  plan = small_plan();
  plan.metadata = {{"flatbed.series", "mine"}};
  EXPECT_ERROR(series.save(plan, {.step = 2}), invalid_argument);
  EXPECT_EQ(dir.names(), Names{"step-000000000001.safetensors"});
}

TEST(SeriesSave, TheFolderAboveMustExist) {
  const TempDir dir;
  EXPECT_ERROR(open_series(dir / "a" / "b").save(small_plan(), {.step = 1}), file_not_found);
}

TEST(SeriesSave, ATensorOfAnEarlierCheckpointIsCopied) {
  const TempDir dir;
  Series series = open_series(dir.path(), {.keep_last = 1});
  ASSERT_OK(series.save(small_plan(), {.step = 1}));
  const Result<Checkpoint> checkpoint = Series::open_entry(*series.latest());
  ASSERT_OK(checkpoint);
  const Result<SavePlan> plan = make_plan(*checkpoint);
  ASSERT_OK(plan);
  ASSERT_OK(series.save(*plan, {.step = 2}));
  EXPECT_EQ(steps_in(dir.path()), Steps{2});
  EXPECT_TRUE(series.verify()->ok());
}

TEST(SeriesSave, AReaderInTheMiddleOfWritesAlwaysFindsOne) {
  const TempDir dir;
  Series series = open_series(dir.path(), {.keep_last = 1, .file = {.sync = false}});
  ASSERT_OK(series.save(small_plan(), {.step = 1}));
  for (std::uint64_t step = 2; step < 60; ++step) {
    const Result<PendingSave> pending = series.save_async(small_plan(), {.step = step});
    ASSERT_OK(pending);
    while (!pending->ready()) {
      const Result<SeriesEntry> latest = series.latest();
      ASSERT_OK(latest);
      EXPECT_GE(latest->step, step - 1);
    }
  }
}

}  // namespace
}  // namespace flatbed
