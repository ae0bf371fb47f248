// Each system call of the writers of a series fails once: what failed changed nothing, and what
// succeeded is whole. Then faults of file systems that last.
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "flatbed/series.hpp"
#include "support/expect_error.hpp"
#include "support/fault_io.hpp"
#include "support/kill_at_call.hpp"
#include "support/series_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

namespace fs = std::filesystem;
using test::Ending;
using test::FaultIo;
using test::IoCall;
using test::latest_step;
using test::nth;
using test::open_series;
using test::parts_of;
using test::run_with_failing_call;
using test::small_plan;
using test::steps_in;
using test::TempDir;
using Names = std::vector<std::string>;
using Steps = std::vector<std::uint64_t>;

SavePlan plan_for(const SeriesOptions& options) {
  return options.max_shard_nbytes ? parts_of("01234567") : small_plan();
}

void prepare(const fs::path& folder, const Steps& steps, const SeriesOptions& options) {
  SeriesOptions all = options;
  all.keep_last = 0;
  all.file.sync = false;
  Series series = open_series(folder, all);
  for (const std::uint64_t step : steps) ASSERT_OK(series.save(plan_for(all), {.step = step}));
}

// Calls write(series) with each call failing once, and check(ending, folder) after it.
void fail_each_call(int error_number, const Steps& before, const SeriesOptions& options,
                    const std::function<bool(Series&)>& write,
                    const std::function<void(Ending, const fs::path&)>& check) {
  Ending ending = Ending::survived;
  for (std::uint64_t n = 1; ending != Ending::finished && !testing::Test::HasFailure(); ++n) {
    SCOPED_TRACE(n);
    const TempDir dir;
    prepare(dir.path(), before, options);
    ending = run_with_failing_call(n, error_number, [&] {
      Result<Series> series = Series::open(dir.path(), options);
      return series && write(*series);
    });
    if (ending == Ending::not_possible) GTEST_SKIP() << "no system call filters here";
    ASSERT_NE(ending, Ending::killed);
    check(ending, dir.path());
    const Result<SeriesVerify> verified = open_series(dir.path()).verify();
    ASSERT_OK(verified);
    EXPECT_TRUE(verified->ok()) << testing::PrintToString(verified->notes);
    ASSERT_OK(
        open_series(dir.path(), {.file = {.sync = false}}).save(small_plan(), {.step = 1000}));
    for (const std::string& name : dir.names()) EXPECT_NE(name.front(), '.') << name;
    EXPECT_EQ(latest_step(dir.path()), 1000U);
  }
}

void save_with_failing_calls(int error_number, const SeriesOptions& options) {
  const auto write = [&](Series& series) {
    return series.save(plan_for(options), {.step = 4}).has_value();
  };
  fail_each_call(error_number, {2, 3}, options, write, [](Ending ending, const fs::path& folder) {
    const Steps steps = steps_in(folder);
    if (ending == Ending::failed) {
      EXPECT_EQ(steps, (Steps{2, 3}));
    } else {
      EXPECT_EQ(steps.back(), 4U);
      EXPECT_GE(steps.size(), 2U);
    }
  });
}

TEST(SeriesFaults, ASaveWhoseCallsFailIsWholeOrNotThere) {
  save_with_failing_calls(EIO, {.keep_last = 2});
}

TEST(SeriesFaults, ASaveOfASetWhoseCallsFailIsWholeOrNotThere) {
  save_with_failing_calls(EIO, {.keep_last = 2, .max_shard_nbytes = 4});
}

TEST(SeriesFaults, ASaveWithoutSpaceIsWholeOrNotThere) {
  save_with_failing_calls(ENOSPC, {.keep_last = 2});
}

TEST(SeriesFaults, PruningWhoseCallsFailKeepsTheLatest) {
  const SeriesOptions options{.keep_last = 1};
  const auto write = [](Series& series) { return series.prune().has_value(); };
  fail_each_call(EIO, {1, 2, 3}, options, write,
                 [](Ending, const fs::path& folder) { EXPECT_EQ(latest_step(folder), 3U); });
}

TEST(SeriesFaults, PruningSetsWhoseCallsFailShowsNoneOfThemInPart) {
  const SeriesOptions options{.keep_last = 1, .max_shard_nbytes = 4};
  const auto write = [](Series& series) { return series.prune().has_value(); };
  fail_each_call(EIO, {1, 2}, options, write,
                 [](Ending, const fs::path& folder) { EXPECT_EQ(latest_step(folder), 2U); });
}

TEST(SeriesFaults, RollingBackWhoseCallsFailLosesNothing) {
  const auto write = [](Series& series) { return series.roll_back(1).has_value(); };
  fail_each_call(EIO, {1, 2, 3}, {}, write, [](Ending ending, const fs::path& folder) {
    const Steps steps = steps_in(folder);
    const Steps abandoned =
        fs::exists(folder / "abandoned") ? steps_in(folder / "abandoned") : Steps();
    EXPECT_EQ(steps.size() + abandoned.size(), 3U);
    EXPECT_EQ(steps.front(), 1U);
    EXPECT_TRUE(ending == Ending::failed || steps.size() == 1);
    EXPECT_EQ(steps.back(), steps.size());
  });
}

// Runs `body` in a child process, in which the kernel answers these calls with an error. -1 where a
// process cannot filter its calls.
int while_failing(const std::vector<long>& calls, int error_number,
                  const std::function<int()>& body) {
  constexpr int kNoFilter = 255;
  const pid_t child = ::fork();
  if (child == 0) {
    std::vector<sock_filter> filter{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
    for (const long call : calls) {
      filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 1));
      filter.push_back(
          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error_number)));
    }
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
    const bool filtered = ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                          ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
    ::_exit(filtered ? body() : kNoFilter);
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -2;
  return WEXITSTATUS(status) == kNoFilter ? -1 : WEXITSTATUS(status);
}

template <typename T>
int code_of(const Result<T>& result) {
  return result ? 0 : static_cast<int>(result.error().code);
}

void expect_code(int found, ErrorCode expected) {
  if (found == -1) GTEST_SKIP() << "no system call filters here";
  EXPECT_EQ(found, static_cast<int>(expected));
}

TEST(SeriesFaults, RollingBackToAnotherFileSystemIsRefused) {
  const TempDir dir;
  prepare(dir.path(), {1, 2, 3}, {});
  const auto roll_back = [&] { return code_of(open_series(dir.path()).roll_back(1)); };
  expect_code(while_failing({SYS_renameat2}, EXDEV, roll_back), ErrorCode::unsupported_filesystem);
  EXPECT_EQ(steps_in(dir.path()), (Steps{1, 2, 3}));
}

TEST(SeriesFaults, RollingBackNeedsNoFlagsOfRename) {
  const TempDir dir;
  prepare(dir.path(), {1, 2, 3}, {});
  prepare(dir.path(), {4}, {.max_shard_nbytes = 4});
  const auto roll_back = [&] { return code_of(open_series(dir.path()).roll_back(1)); };
  const int code = while_failing({SYS_renameat2}, EINVAL, roll_back);
  if (code == -1) GTEST_SKIP() << "no system call filters here";
  EXPECT_EQ(code, 0);
  EXPECT_EQ(steps_in(dir.path()), Steps{1});
  EXPECT_EQ(steps_in(dir / "abandoned"), (Steps{2, 3, 4}));
}

TEST(SeriesFaults, ASetThatCannotGetItsNameIsNotThere) {
  const TempDir dir;
  const SeriesOptions options{.max_shard_nbytes = 4};
  prepare(dir.path(), {1}, options);
  const auto save = [&] {
    return code_of(open_series(dir.path(), options).save(plan_for(options), {.step = 2}));
  };
  expect_code(while_failing({SYS_renameat, SYS_renameat2}, EXDEV, save), ErrorCode::io_error);
  EXPECT_EQ(dir.names(), Names{"step-000000000001"});
}

TEST(SeriesFaults, AFileSystemWithoutLocksIsWrittenTo) {
  const TempDir dir;
  const auto save = [&] {
    return code_of(open_series(dir.path()).save(small_plan(), {.step = 1}));
  };
  const int code = while_failing({SYS_flock}, ENOLCK, save);
  if (code == -1) GTEST_SKIP() << "no system call filters here";
  EXPECT_EQ(code, 0);
  EXPECT_EQ(steps_in(dir.path()), Steps{1});
}

TEST(SeriesFaults, WhereNothingCanBeWrittenNothingChanges) {
  const TempDir dir;
  prepare(dir / "run", {1, 2}, {});
  ASSERT_EQ(::chmod(dir.path().c_str(), 0555), 0);
  ASSERT_EQ(::chmod((dir / "run").c_str(), 0555), 0);
  const auto in_child = [&](const std::function<int()>& body) {
    return while_failing({}, 0, [&] {
      if (::geteuid() == 0 && ::setuid(65534) != 0) return 254;
      return body();
    });
  };
  const auto save = [](Series series) { return code_of(series.save(small_plan(), {.step = 3})); };
  expect_code(in_child([&] { return save(open_series(dir / "run")); }),
              ErrorCode::permission_denied);
  expect_code(in_child([&] { return save(open_series(dir / "new")); }),
              ErrorCode::permission_denied);
  expect_code(in_child([&] { return code_of(open_series(dir / "run").roll_back(1)); }),
              ErrorCode::permission_denied);
  const int pruned = in_child([&] {
    const Result<PruneReport> report = open_series(dir / "run", {.keep_last = 1}).prune();
    return report && report->removed.empty() && report->notes.size() == 1 ? 0 : 1;
  });
  EXPECT_TRUE(pruned == 0 || pruned == -1);
  EXPECT_EQ(steps_in(dir / "run"), (Steps{1, 2}));
  ASSERT_EQ(::chmod(dir.path().c_str(), 0755), 0);
  ASSERT_EQ(::chmod((dir / "run").c_str(), 0755), 0);
}

TEST(SeriesFaults, AFailedSyncOfTheFileSavesNothing) {
  const TempDir dir;
  prepare(dir.path(), {1}, {});
  Series series = open_series(dir.path());
  ASSERT_OK(series.save(small_plan(), {.step = 2}));
  {
    FaultIo faults;
    faults.fail(IoCall::sync, nth(1), EIO);
    EXPECT_ERROR(series.save(small_plan(), {.step = 3}), io_error);
  }
  EXPECT_EQ(dir.names().size(), 2U);
  EXPECT_OK(series.save(small_plan(), {.step = 3}));
}

// The folder above is synced first, then the file, then the folder.
Result<SeriesSave> save_with_failing_sync(Series& series, std::uint64_t n) {
  FaultIo faults;
  faults.fail(IoCall::sync, nth(n), EIO);
  return series.save(small_plan(), {.step = 3});
}

TEST(SeriesFaults, WhatMayNotBeDurableReplacesNothing) {
  const TempDir dir;
  prepare(dir.path(), {1, 2}, {});
  Series series = open_series(dir.path(), {.keep_last = 1});
  const Result<SeriesSave> saved = save_with_failing_sync(series, 3);
  ASSERT_OK(saved);
  EXPECT_EQ(saved->files.durability, Durability::durability_unknown);
  EXPECT_EQ(saved->pruned.size(), 0U);
  EXPECT_EQ(saved->notes.size(), 1U);
  EXPECT_EQ(steps_in(dir.path()), (Steps{1, 2, 3}));
}

TEST(SeriesFaults, AFolderThatMayNotBeDurableIsSaidUntilItIs) {
  const TempDir dir;
  Series series = open_series(dir / "run");
  const Result<SeriesSave> saved = save_with_failing_sync(series, 1);
  ASSERT_OK(saved);
  EXPECT_EQ(saved->files.durability, Durability::durability_unknown);
  EXPECT_NE(saved->files.durability_note.find("folder above"), std::string::npos);
  EXPECT_EQ(series.save(small_plan(), {.step = 4})->files.durability, Durability::committed);
}

TEST(SeriesFaults, AProcessWithoutDescriptorsDoesNotTakeAnOlderOneForTheLatest) {
  const TempDir dir;
  prepare(dir.path(), {1, 2}, {});
  const Series series = open_series(dir.path());
  for (std::uint64_t n = 1; n < 12; ++n) {
    FaultIo faults;
    faults.fail(IoCall::open, nth(n), EMFILE);
    const Result<SeriesEntry> latest = series.latest();
    EXPECT_TRUE(latest ? latest->step == 2 : latest.error().code == ErrorCode::resource_exhausted);
  }
}

TEST(SeriesFaults, ACheckpointThatCannotBeReadNowKeepsItsNumber) {
  const TempDir dir;
  prepare(dir.path(), {10, 20, 30}, {});
  Series series = open_series(dir.path());
  {
    FaultIo faults("step-000000000030.safetensors");
    faults.fail(IoCall::read, test::kEveryCall, EIO);
    const Result<SeriesEntry> latest = series.latest();
    ASSERT_OK(latest);
    EXPECT_EQ(latest->step, 20U);
    ASSERT_OK(series.save(small_plan(), {.step = 25}));
  }
  EXPECT_EQ(series.latest()->step, 25U);
  EXPECT_EQ(series.list()->notes, Names{});
}

}  // namespace
}  // namespace flatbed
