// What a folder lists, and which checkpoint of it is the latest or the best.
#include "flatbed/series.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "flatbed/save.hpp"
#include "flatbed/save_set.hpp"
#include "support/expect_error.hpp"
#include "support/series_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

namespace fs = std::filesystem;
using test::latest_step;
using test::open_series;
using test::plan_of;
using test::put;
using test::put_set;
using test::read_file;
using test::small_plan;
using test::statement_of;
using test::steps_in;
using test::TempDir;
using test::write_file;
using Steps = std::vector<std::uint64_t>;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

SeriesListing list(const fs::path& folder) {
  Result<SeriesListing> listing = open_series(folder).list();
  EXPECT_OK(listing);
  return listing ? *std::move(listing) : SeriesListing();
}

void flip(const fs::path& path, std::size_t at) {
  std::string bytes = read_file(path);
  ASSERT_LT(at, bytes.size());
  bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
  write_file(path, bytes);
}

TEST(Series, ListsInTheOrderOfSequenceNumbers) {
  const TempDir dir;
  Statement late = statement_of(3, 300);
  late.saved_at = -5;  // a clock that went back
  put(dir / "a.safetensors", late);
  put(dir / "b.safetensors", statement_of(1, 500));
  put(dir / "c.safetensors", statement_of(2, 200));
  EXPECT_EQ(steps_in(dir.path()), (Steps{500, 200, 300}));
  EXPECT_EQ(latest_step(dir.path()), 300U);
}

TEST(Series, AnEntrySaysWhatTheHeaderStates) {
  const TempDir dir;
  Statement statement = statement_of(7, 3000, 0.25);
  statement.parent = "00112233aabbccdd";
  statement.saved_at = 1764390000123;
  statement.epoch = 3;
  put(dir / "a.safetensors", statement);
  const SeriesListing listing = list(dir.path());
  EXPECT_EQ(listing.metric, "loss");
  EXPECT_EQ(listing.mode, ScoreMode::min);
  EXPECT_EQ(listing.notes, std::vector<std::string>());
  ASSERT_EQ(listing.entries.size(), 1U);
  const SeriesEntry& entry = listing.entries[0];
  EXPECT_EQ(entry.path, dir / "a.safetensors");
  EXPECT_EQ(entry.sequence, 7U);
  EXPECT_EQ(entry.step, 3000U);
  EXPECT_EQ(entry.score, 0.25);
  EXPECT_EQ(entry.epoch, 3);
  EXPECT_EQ(entry.parent, "00112233aabbccdd");
  EXPECT_EQ(entry.saved_at, 1764390000123);
  EXPECT_EQ(entry.nbytes, fs::file_size(dir / "a.safetensors"));
  EXPECT_FALSE(entry.is_set);
  const Result<Checkpoint> opened = Series::open_entry(entry);
  ASSERT_OK(opened);
  EXPECT_EQ(opened->files()[0].content, entry.content);
}

TEST(Series, SetsAreListedByTheirFirstShard) {
  const TempDir dir;
  put_set(dir / "many", statement_of(1, 10));
  put_set(dir / "one", statement_of(2, 20), test::parts_of("0123"));
  const SeriesListing listing = list(dir.path());
  ASSERT_EQ(listing.entries.size(), 2U);
  for (const SeriesEntry& entry : listing.entries) {
    EXPECT_TRUE(entry.is_set);
    EXPECT_OK(Series::open_entry(entry));
    std::uint64_t nbytes = 0;
    for (const auto& file : fs::directory_iterator(entry.path)) nbytes += file.file_size();
    EXPECT_EQ(entry.nbytes, nbytes);
  }
  EXPECT_EQ(latest_step(dir.path()), 20U);
}

TEST(Series, WhatIsNotOfTheSeriesIsIgnored) {
  const TempDir dir;
  put(dir / "a.safetensors", statement_of(1, 1));
  put(dir / ".hidden.safetensors", statement_of(2, 2));
  put(dir / "other.ending", statement_of(3, 3));
  fs::create_directory(dir / "below");
  put(dir / "below" / "deep.safetensors", statement_of(4, 4));
  fs::create_directory(dir / "abandoned");
  put(dir / "abandoned" / "model.safetensors", statement_of(5, 5));
  fs::create_symlink("a.safetensors", dir / "link.safetensors");
  fs::create_directory_symlink("abandoned", dir / "linked");
  ASSERT_EQ(::mkfifo((dir / "fifo.safetensors").c_str(), 0600), 0);
  ASSERT_OK(save(dir / "sealed.safetensors", small_plan()));
  ASSERT_OK(save(dir / "plain.safetensors", small_plan(), {.seal = false}));
  write_file(dir / "notes.txt", "notes");
  const SeriesListing listing = list(dir.path());
  ASSERT_EQ(listing.entries.size(), 1U);
  EXPECT_EQ(listing.entries[0].path, dir / "a.safetensors");
  EXPECT_EQ(listing.notes, std::vector<std::string>());
}

TEST(Series, ACopyOfACheckpointIsNotOfTheSeries) {
  const TempDir dir;
  put(dir / "a.safetensors", statement_of(1, 1));
  Result<Checkpoint> checkpoint = Checkpoint::open(dir / "a.safetensors");
  ASSERT_OK(checkpoint);
  const Result<SavePlan> plan = make_plan(*checkpoint);
  ASSERT_OK(plan);
  ASSERT_OK(save(dir / "b.safetensors", *plan));
  EXPECT_EQ(list(dir.path()).entries.size(), 1U);
}

TEST(Series, WithoutAFolderThereIsNoStep) {
  const TempDir dir;
  const Series series = open_series(dir / "none");
  EXPECT_ERROR(series.list(), file_not_found);
  EXPECT_ERROR(series.latest(), step_not_found);
  EXPECT_ERROR(series.best(), step_not_found);
  EXPECT_ERROR(series.at(1), step_not_found);
  EXPECT_FALSE(fs::exists(dir / "none"));
}

TEST(Series, AnEmptyFolderHasNoStep) {
  const TempDir dir;
  const Series series = open_series(dir.path());
  EXPECT_EQ(list(dir.path()).entries.size(), 0U);
  EXPECT_ERROR(series.latest(), step_not_found);
  EXPECT_ERROR(series.best(), step_not_found);
  EXPECT_ERROR(series.at(1), step_not_found);
}

TEST(Series, AFileInPlaceOfTheFolderIsRefused) {
  const TempDir dir;
  write_file(dir / "file", "");
  EXPECT_ERROR(Series::open(dir / "file"), not_a_regular_file);
}

TEST(Series, RefusesOptionsThatMeanNothing) {
  const TempDir dir;
  EXPECT_ERROR(Series::open(dir.path(), {.metric = ""}), invalid_argument);
  EXPECT_ERROR(Series::open(dir.path(), {.metric = std::string(257, 'm')}), invalid_argument);
  EXPECT_ERROR(Series::open(dir.path(), {.metric = "\xFF"}), invalid_argument);
  EXPECT_ERROR(Series::open(dir.path(), {.max_shard_nbytes = 0}), invalid_argument);
  EXPECT_ERROR(Series::open(dir.path(), {.file = {.dry_run = true}}), invalid_argument);
}

TEST(Series, OpeningWithAnotherMetricOrModeFails) {
  const TempDir dir;
  put(dir / "a.safetensors", statement_of(1, 1, 0.5));
  EXPECT_OK(Series::open(dir.path(), {.metric = "loss", .mode = ScoreMode::min}));
  EXPECT_ERROR(Series::open(dir.path(), {.metric = "accuracy"}), series_mismatch);
  EXPECT_ERROR(Series::open(dir.path(), {.mode = ScoreMode::max}), series_mismatch);
}

Result<SeriesEntry> best_of(const std::vector<double>& scores, ScoreMode mode) {
  const TempDir dir;
  for (std::uint64_t i = 0; i < scores.size(); ++i) {
    Statement statement = statement_of(i + 1, i, scores[i]);
    statement.mode = mode;
    put(dir / (std::to_string(i) + ".safetensors"), statement);
  }
  return open_series(dir.path()).best();
}

TEST(Series, TheBestIsTheLowestOrTheHighestScore) {
  EXPECT_EQ(best_of({0.5, 0.25, 0.75}, ScoreMode::min)->step, 1U);
  EXPECT_EQ(best_of({0.5, 0.25, 0.75}, ScoreMode::max)->step, 2U);
  EXPECT_EQ(best_of({kInfinity, -kInfinity, 0.0}, ScoreMode::min)->step, 1U);
  EXPECT_EQ(best_of({kInfinity, -kInfinity, 0.0}, ScoreMode::max)->step, 0U);
}

TEST(Series, NanIsNeverBest) {
  EXPECT_EQ(best_of({kNan, 0.5, kNan}, ScoreMode::min)->step, 1U);
  EXPECT_EQ(best_of({kNan, -kInfinity}, ScoreMode::max)->step, 1U);
  EXPECT_ERROR(best_of({kNan, kNan}, ScoreMode::max), step_not_found);
}

TEST(Series, OfEqualScoresTheEarliestIsBest) {
  EXPECT_EQ(best_of({0.5, 0.25, 0.25}, ScoreMode::min)->step, 1U);
  EXPECT_EQ(best_of({0.5, 0.5}, ScoreMode::max)->step, 0U);
  EXPECT_EQ(best_of({0.0, -0.0}, ScoreMode::min)->step, 0U);
}

TEST(Series, ACheckpointWithoutAScoreIsNeverBest) {
  const TempDir dir;
  put(dir / "a.safetensors", statement_of(1, 1));
  EXPECT_ERROR(open_series(dir.path()).best(), step_not_found);
  put(dir / "b.safetensors", statement_of(2, 2, 7.0));
  put(dir / "c.safetensors", statement_of(3, 3));
  EXPECT_EQ(open_series(dir.path()).best()->step, 2U);
}

TEST(Series, AnotherMetricIsNamedAndNeverBest) {
  const TempDir dir;
  put(dir / "a.safetensors", statement_of(1, 1, 0.5));
  Statement other = statement_of(2, 2, 0.1);
  other.metric = "other";
  put(dir / "b.safetensors", other);
  other.metric = "loss";
  other.mode = ScoreMode::max;
  other.sequence = 3;
  put(dir / "c.safetensors", other);
  const SeriesListing listing = list(dir.path());
  EXPECT_EQ(listing.entries.size(), 3U);
  ASSERT_EQ(listing.notes.size(), 2U);
  EXPECT_NE(listing.notes[0].find("b.safetensors"), std::string::npos);
  EXPECT_NE(listing.notes[1].find("c.safetensors"), std::string::npos);
  EXPECT_EQ(open_series(dir.path()).best()->step, 1U);
}

TEST(Series, ATruncatedFileIsPassedOverAndNamed) {
  const TempDir dir;
  put(dir / "a.safetensors", statement_of(1, 1, 0.5));
  put(dir / "b.safetensors", statement_of(2, 2, 0.1));
  const std::string whole = read_file(dir / "b.safetensors");
  for (std::size_t nbytes = 0; nbytes < whole.size(); nbytes += nbytes < 500 ? 1 : 97) {
    write_file(dir / "b.safetensors", whole.substr(0, nbytes));
    const Series series = open_series(dir.path());
    const Result<SeriesEntry> latest = series.latest();
    ASSERT_OK(latest);
    EXPECT_EQ(latest->step, 1U) << nbytes;
    EXPECT_EQ(series.best()->step, 1U) << nbytes;
    const SeriesListing listing = list(dir.path());
    EXPECT_EQ(latest->notes.size() + listing.notes.size(), 1U) << nbytes;
    const std::string& note = latest->notes.empty() ? listing.notes[0] : latest->notes[0];
    EXPECT_NE(note.find("b.safetensors"), std::string::npos) << note;
  }
}

TEST(Series, AFlippedBitOfTheHeaderIsPassedOverAndNamed) {
  const TempDir dir;
  put(dir / "a.safetensors", statement_of(1, 1, 0.5));
  put(dir / "b.safetensors", statement_of(2, 2, 0.1));
  const std::string whole = read_file(dir / "b.safetensors");
  for (std::size_t at = 0; at < 4096; at += at < 700 ? 1 : 61) {
    write_file(dir / "b.safetensors", whole);
    flip(dir / "b.safetensors", at);
    const Series series = open_series(dir.path());
    const Result<SeriesEntry> latest = series.latest();
    ASSERT_OK(latest);
    EXPECT_EQ(latest->step, 1U) << at;
    EXPECT_EQ(series.best()->step, 1U) << at;
    EXPECT_GE(latest->notes.size() + list(dir.path()).notes.size(), 1U) << at;
  }
}

TEST(Series, VerifyNamesTheDamagedBytes) {
  const TempDir dir;
  put(dir / "a.safetensors", statement_of(1, 1));
  put(dir / "b.safetensors", statement_of(2, 2));
  const Series series = open_series(dir.path());
  EXPECT_TRUE(series.verify()->ok());
  flip(dir / "b.safetensors", fs::file_size(dir / "b.safetensors") - 1);
  EXPECT_EQ(series.latest()->step, 2U);  // reads the headers alone
  Result<SeriesVerify> verified = series.verify();
  ASSERT_OK(verified);
  EXPECT_FALSE(verified->ok());
  ASSERT_EQ(verified->entries.size(), 2U);
  EXPECT_TRUE(verified->entries[0].ok());
  ASSERT_OK(verified->entries[1].report);
  EXPECT_EQ(verified->entries[1].report->damaged.size(), 1U);
  write_file(dir / "b.safetensors", "short");
  verified = series.verify();
  EXPECT_FALSE(verified->ok());
  EXPECT_EQ(verified->notes.size(), 1U);
}

TEST(Series, ASetWithoutOneOfItsFilesIsPassedOver) {
  const TempDir dir;
  put_set(dir / "a", statement_of(1, 1));
  put_set(dir / "b", statement_of(2, 2));
  fs::remove(dir / "b" / "model-00002-of-00002.safetensors");
  const Result<SeriesEntry> latest = open_series(dir.path()).latest();
  ASSERT_OK(latest);
  EXPECT_EQ(latest->step, 1U);
  ASSERT_EQ(latest->notes.size(), 1U);
  EXPECT_NE(latest->notes[0].find("model-00002"), std::string::npos) << latest->notes[0];
  EXPECT_ERROR(open_series(dir.path()).at(2), shard_missing);
}

TEST(Series, ASetOfTwoSavesIsPassedOver) {
  const TempDir dir;
  put_set(dir / "a", statement_of(1, 1));
  put_set(dir / "b", statement_of(2, 2), test::parts_of("abcdefgh"));
  const char* second = "model-00002-of-00002.safetensors";
  fs::copy_file(dir / "a" / second, dir / "b" / second, fs::copy_options::overwrite_existing);
  EXPECT_EQ(latest_step(dir.path()), 1U);
}

TEST(Series, AFileRewrittenByAnotherToolIsListedAndNeverLatest) {
  const TempDir dir;
  put(dir / "a.safetensors", statement_of(1, 1));
  put(dir / "b.safetensors", statement_of(2, 2));
  std::string bytes = read_file(dir / "b.safetensors");
  const std::size_t at = bytes.find("\"pt\"");
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, 4, "\"xx\"");  // outside of what CONTENT covers
  write_file(dir / "b.safetensors", bytes);
  EXPECT_EQ(steps_in(dir.path()), (Steps{1, 2}));
  const Result<SeriesEntry> latest = open_series(dir.path()).latest();
  EXPECT_EQ(latest->step, 1U);
  EXPECT_EQ(latest->notes.size(), 1U);
  EXPECT_ERROR(open_series(dir.path()).at(2), seal_header_mismatch);
}

TEST(Series, TwoNamesOfOneCheckpointAreOneEntry) {
  const TempDir dir;
  put(dir / "b.safetensors", statement_of(1, 1));
  fs::copy_file(dir / "b.safetensors", dir / "a.safetensors");
  SeriesListing listing = list(dir.path());
  ASSERT_EQ(listing.entries.size(), 1U);
  EXPECT_EQ(listing.entries[0].path, dir / "a.safetensors");
  EXPECT_EQ(listing.notes, std::vector<std::string>());
  fs::resize_file(dir / "a.safetensors", 4096);  // the other one is still whole
  listing = list(dir.path());
  ASSERT_EQ(listing.entries.size(), 1U);
  EXPECT_EQ(listing.entries[0].path, dir / "b.safetensors");
  EXPECT_EQ(latest_step(dir.path()), 1U);
}

TEST(Series, TheNameOfACopyThatIsWholeCountsForTheOrder) {
  const TempDir dir;
  put(dir / "a.safetensors", statement_of(1, 1));
  put(dir / "b.safetensors", statement_of(1, 2));
  fs::copy_file(dir / "a.safetensors", dir / "c.safetensors");
  fs::resize_file(dir / "a.safetensors", 4096);
  const SeriesListing listing = list(dir.path());
  EXPECT_EQ(test::steps_of(listing.entries), (Steps{2, 1}));
  EXPECT_EQ(listing.entries[1].path, dir / "c.safetensors");
  EXPECT_EQ(listing.entries[1].nbytes, fs::file_size(dir / "c.safetensors"));
  ASSERT_EQ(listing.notes.size(), 1U);
  EXPECT_EQ(listing.notes[0].find("a.safetensors"), std::string::npos);
}

TEST(Series, TwoCheckpointsOfOneNumberAreBothListedAndNamed) {
  const TempDir dir;
  put(dir / "b.safetensors", statement_of(1, 1));
  put(dir / "a.safetensors", statement_of(1, 2));
  const SeriesListing listing = list(dir.path());
  EXPECT_EQ(test::steps_of(listing.entries), (Steps{2, 1}));
  ASSERT_EQ(listing.notes.size(), 1U);
  EXPECT_NE(listing.notes[0].find("a.safetensors"), std::string::npos);
  EXPECT_NE(listing.notes[0].find("b.safetensors"), std::string::npos);
  EXPECT_EQ(latest_step(dir.path()), 1U);
}

TEST(Series, AtFindsTheLastOfAStepThatOpens) {
  const TempDir dir;
  put(dir / "a.safetensors", statement_of(1, 5));
  put(dir / "b.safetensors", statement_of(2, 5));
  put(dir / "c.safetensors", statement_of(3, 5));
  const Series series = open_series(dir.path());
  EXPECT_EQ(series.at(5)->sequence, 3U);
  fs::resize_file(dir / "c.safetensors", 4096);
  const Result<SeriesEntry> entry = series.at(5);
  EXPECT_EQ(entry->sequence, 2U);
  EXPECT_EQ(entry->notes.size(), 1U);
  EXPECT_ERROR(series.at(6), step_not_found);
}

TEST(Series, AnEntryThatIsAnotherFileNowDoesNotOpen) {
  const TempDir dir;
  put(dir / "a.safetensors", statement_of(1, 1));
  const SeriesListing listing = list(dir.path());
  put(dir / "a.safetensors", statement_of(1, 2));
  EXPECT_ERROR(Series::open_entry(listing.entries.at(0)), file_changed);
  ASSERT_OK(save(dir / "a.safetensors", small_plan()));
  EXPECT_ERROR(Series::open_entry(listing.entries.at(0)), file_changed);
}

TEST(Series, AStatementThatIsMalformedIsNamedByItsCode) {
  const TempDir dir;
  put(dir / "a.safetensors", statement_of(1, 1));
  const std::string text = *encode_statement(statement_of(2, 2));
  ASSERT_OK(save_in_series(dir / "b.safetensors", small_plan(), {}, text + " "));
  const SeriesListing listing = list(dir.path());
  EXPECT_EQ(listing.entries.size(), 1U);
  ASSERT_EQ(listing.notes.size(), 1U);
  EXPECT_NE(listing.notes[0].find("b.safetensors"), std::string::npos);
  EXPECT_NE(listing.notes[0].find("does not match its digest"), std::string::npos);
}

}  // namespace
}  // namespace flatbed
