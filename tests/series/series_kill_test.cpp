// Writers of a series killed before each of their system calls: the latest checkpoint is the last
// one that was reported or a newer one, nothing else is lost, and the next save removes leftovers.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <new>
#include <string>
#include <vector>

#include "flatbed/series.hpp"
#include "support/expect_error.hpp"
#include "support/kill_at_call.hpp"
#include "support/series_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

namespace fs = std::filesystem;
using test::Ending;
using test::latest_step;
using test::open_series;
using test::parts_of;
using test::run_until_call;
using test::steps_in;
using test::TempDir;
using Steps = std::vector<std::uint64_t>;

// A number that a child process writes and its parent reads.
class SharedNumber {
 public:
  SharedNumber() {
    void* const page = ::mmap(nullptr, sizeof(std::atomic<std::uint64_t>), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED) number_ = new (page) std::atomic<std::uint64_t>(0);
  }
  SharedNumber(const SharedNumber&) = delete;
  SharedNumber& operator=(const SharedNumber&) = delete;
  ~SharedNumber() { ::munmap(number_, sizeof *number_); }
  [[nodiscard]] std::atomic<std::uint64_t>& operator*() const { return *number_; }

 private:
  std::atomic<std::uint64_t>* number_ = nullptr;
};

// What is done to a series, and what it may have become when that was cut short.
struct Scenario {
  Steps before;
  SeriesOptions options;
  // Returns whether it succeeded; sets `reported` to each step that was reported committed.
  std::function<bool(Series&, std::atomic<std::uint64_t>& reported)> write;
  std::vector<Steps> allowed;
};

SavePlan plan_for(const SeriesOptions& options) {
  return options.max_shard_nbytes ? parts_of("01234567") : test::small_plan();
}

// Every name in the folder that begins with a dot: temporaries.
std::size_t leftovers(const fs::path& folder) {
  const auto is_hidden = [](const fs::directory_entry& entry) {
    return entry.path().filename().native().starts_with('.');
  };
  return static_cast<std::size_t>(
      std::count_if(fs::directory_iterator(folder), fs::directory_iterator(), is_hidden));
}

std::size_t names_of_steps(const fs::path& folder) {
  if (!fs::exists(folder)) return 0;
  return static_cast<std::size_t>(std::count_if(
      fs::directory_iterator(folder), fs::directory_iterator(),
      [](const auto& entry) { return entry.path().filename().native().starts_with("step-"); }));
}

void prepare(const fs::path& folder, const Scenario& scenario) {
  SeriesOptions options = scenario.options;
  options.keep_last = options.keep_every = 0;
  options.file.sync = false;
  Series series = open_series(folder, options);
  for (const std::uint64_t step : scenario.before)
    ASSERT_OK(series.save(plan_for(options), {.step = step}));
}

void check_state(const fs::path& folder, const Scenario& scenario, std::uint64_t reported) {
  const bool was_made = fs::exists(folder);
  const Steps steps = was_made ? steps_in(folder) : Steps();
  EXPECT_TRUE(std::ranges::find(scenario.allowed, steps) != scenario.allowed.end())
      << testing::PrintToString(steps);
  EXPECT_EQ(names_of_steps(folder), steps.size());  // nothing in part has a checkpoint's name
  if (steps.empty()) {
    EXPECT_EQ(reported, 0U);
  } else {
    EXPECT_GE(latest_step(folder), reported);
    EXPECT_EQ(latest_step(folder), steps.back());
    EXPECT_TRUE(open_series(folder).verify()->ok());
  }
}

void check_next_save(const fs::path& folder, const Scenario& scenario) {
  const Steps steps = fs::exists(folder) ? steps_in(folder) : Steps();
  SeriesOptions options = scenario.options;
  options.keep_last = 0;
  options.file.sync = false;
  Series series = open_series(folder, options);
  const Result<SeriesSave> saved = series.save(plan_for(options), {.step = 1000});
  ASSERT_OK(saved);
  EXPECT_EQ(leftovers(folder), 0U);
  Steps expected = steps;
  expected.push_back(1000);
  EXPECT_EQ(steps_in(folder), expected);
  EXPECT_TRUE(series.verify()->ok());
}

// Returns how often it was killed.
std::uint64_t kill_at_each_call(const Scenario& scenario) {
  const SharedNumber reported;
  Ending ending = Ending::killed;
  std::uint64_t n = 1;
  for (; ending == Ending::killed && !testing::Test::HasFailure(); ++n) {
    SCOPED_TRACE(n);
    const TempDir dir;
    const fs::path folder = dir / "run";
    if (!scenario.before.empty()) prepare(folder, scenario);
    const std::size_t total = names_of_steps(folder);
    *reported = 0;
    ending = run_until_call(n, [&] {
      Result<Series> series = Series::open(folder, scenario.options);
      return series && scenario.write(*series, *reported);
    });
    if (ending == Ending::not_possible) return 0;
    EXPECT_NE(ending, Ending::failed);
    check_state(folder, scenario, *reported);
    const bool removes = scenario.options.keep_last != 0;
    const std::size_t now = names_of_steps(folder) + names_of_steps(folder / "abandoned");
    EXPECT_TRUE(removes || now >= total);
    check_next_save(folder, scenario);
  }
  EXPECT_TRUE(ending == Ending::finished || testing::Test::HasFailure());
  std::printf("%lu kills\n", static_cast<unsigned long>(n - 2));
  return n - 2;
}

std::function<bool(Series&, std::atomic<std::uint64_t>&)> save_steps(Steps steps,
                                                                     const SeriesOptions& options) {
  return [steps = std::move(steps), options](Series& series, std::atomic<std::uint64_t>& reported) {
    for (const std::uint64_t step : steps) {
      if (!series.save(plan_for(options), {.step = step})) return false;
      reported = step;
    }
    return true;
  };
}

void expect_kills(const Scenario& scenario) {
  if (kill_at_each_call(scenario) == 0) GTEST_SKIP() << "no system call filters here";
}

TEST(SeriesKill, TheFirstSaveMakesTheFolderAndAWholeCheckpoint) {
  expect_kills({{}, {}, save_steps({1, 2}, {}), {{}, {1}, {1, 2}}});
}

TEST(SeriesKill, TheFirstSaveOfASet) {
  const SeriesOptions options{.max_shard_nbytes = 4};
  expect_kills({{}, options, save_steps({1}, options), {{}, {1}}});
}

TEST(SeriesKill, SavesThatPrune) {
  const SeriesOptions options{.keep_last = 2};
  expect_kills({{2, 3},
                options,
                save_steps({4, 5}, options),
                {{2, 3}, {2, 3, 4}, {3, 4}, {3, 4, 5}, {4, 5}}});
}

TEST(SeriesKill, SavesOfSetsThatPrune) {
  const SeriesOptions options{.keep_last = 1, .max_shard_nbytes = 4};
  expect_kills({{3}, options, save_steps({4}, options), {{3}, {3, 4}, {4}}});
}

TEST(SeriesKill, SavesInTheBackground) {
  const SeriesOptions options{.keep_last = 1};
  const auto write = [](Series& series, std::atomic<std::uint64_t>& reported) {
    for (std::uint64_t step = 4; step < 7; ++step) {
      const Result<PendingSave> pending = series.save_async(test::small_plan(), {.step = step});
      if (!pending || !pending->wait()) return false;
      reported = step;
    }
    return true;
  };
  expect_kills({{3}, options, write, {{3}, {3, 4}, {4}, {4, 5}, {5}, {5, 6}, {6}}});
}

TEST(SeriesKill, PruningFilesFromTheOldestOn) {
  const auto write = [](Series& series, std::atomic<std::uint64_t>&) {
    return series.prune().has_value();
  };
  expect_kills({{1, 2, 3, 4}, {.keep_last = 1}, write, {{1, 2, 3, 4}, {2, 3, 4}, {3, 4}, {4}}});
}

TEST(SeriesKill, PruningSetsShowsNoneOfThemInPart) {
  const auto write = [](Series& series, std::atomic<std::uint64_t>&) {
    return series.prune().has_value();
  };
  expect_kills(
      {{1, 2, 3}, {.keep_last = 1, .max_shard_nbytes = 4}, write, {{1, 2, 3}, {2, 3}, {3}}});
}

TEST(SeriesKill, RollingBackFromTheLatestOn) {
  const auto write = [](Series& series, std::atomic<std::uint64_t>&) {
    return series.roll_back(1).has_value();
  };
  expect_kills({{1, 2, 3, 4}, {}, write, {{1, 2, 3, 4}, {1, 2, 3}, {1, 2}, {1}}});
  expect_kills({{1, 2}, {.max_shard_nbytes = 4}, write, {{1, 2}, {1}}});
}

TEST(SeriesKill, RollingBackAndSavingAgain) {
  const auto write = [](Series& series, std::atomic<std::uint64_t>& reported) {
    if (!series.roll_back(1)) return false;
    reported = 1;
    if (!series.save(test::small_plan(), {.step = 2})) return false;
    reported = 2;
    return true;
  };
  expect_kills({{1, 2, 3}, {}, write, {{1, 2, 3}, {1, 2}, {1}}});
}

}  // namespace
}  // namespace flatbed
