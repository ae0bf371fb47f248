// Saving in the background: what is copied, what the handle gives, and what waits.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "flatbed/series.hpp"
#include "series/memory_copy.hpp"
#include "support/expect_error.hpp"
#include "support/process_memory.hpp"
#include "support/sanitizers.hpp"
#include "support/series_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::open_series;
using test::plan_of;
using test::small_plan;
using test::steps_in;
using test::TempDir;
using Names = std::vector<std::string>;
using Steps = std::vector<std::uint64_t>;

std::string bytes_of(const SeriesEntry& entry) {
  const Result<Checkpoint> checkpoint = Series::open_entry(entry);
  if (!checkpoint) return checkpoint.error().message;
  const TensorInfo& tensor = checkpoint->tensors()[0];
  std::string bytes(tensor.nbytes, '\0');
  EXPECT_OK(checkpoint->read(tensor, 0, std::as_writable_bytes(std::span(bytes))));
  return bytes;
}

// A progress callback in which a save waits until it may go on.
class Gate {
 public:
  [[nodiscard]] ProgressCallback callback() {
    return [this](const Progress&) -> Result<void> {
      open_.wait(false);
      return {};
    };
  }
  void open() {
    open_ = true;
    open_.notify_all();
  }

 private:
  std::atomic<bool> open_ = false;
};

TEST(SaveAsync, SavesWhatTheMemoryHeldAtTheCall) {
  const TempDir dir;
  Gate gate;
  Series series = open_series(dir.path(), {.file = {.progress = gate.callback()}});
  std::string bytes = "0123456789";
  const Result<PendingSave> pending = series.save_async(plan_of(bytes), {.step = 1});
  ASSERT_OK(pending);
  bytes = "xxxxxxxxxx";
  EXPECT_FALSE(pending->ready());
  EXPECT_EQ(series.list()->entries.size(), 0U);  // readers do not wait
  gate.open();
  const Result<SeriesSave> saved = pending->wait();
  ASSERT_OK(saved);
  EXPECT_TRUE(pending->ready());
  EXPECT_EQ(saved->notes, Names{});
  EXPECT_EQ(bytes_of(saved->entry), "0123456789");
  EXPECT_EQ(pending->wait()->entry.path, saved->entry.path);
}

TEST(SaveAsync, SavesManyTensorsOfEverySize) {
  const TempDir dir;
  Series series = open_series(dir.path());
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < 200; ++i)
    parts.emplace_back(i * i % 977, static_cast<char>('a' + i % 26));
  for (std::uint64_t step = 1; step <= 3; ++step) {
    SavePlan plan;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (step == 2 && i % 2 == 0) continue;
      plan.items.push_back({std::to_string(i), Dtype::u8, {parts[i].size()}, as_bytes(parts[i])});
    }
    ASSERT_OK(series.save_async(plan, {.step = step})->wait());
    const Result<Checkpoint> saved = Series::open_entry(*series.latest());
    ASSERT_OK(saved);
    ASSERT_EQ(saved->tensors().size(), plan.items.size());
    for (const TensorInfo& tensor : saved->tensors()) {
      std::string bytes(tensor.nbytes, '\0');
      ASSERT_OK(saved->read(tensor, 0, std::as_writable_bytes(std::span(bytes))));
      EXPECT_EQ(bytes, parts[std::stoul(std::string(tensor.name))]);
    }
  }
}

TEST(SaveAsync, TensorsOfCheckpointsAreNotCopied) {
  const TempDir dir;
  Series series = open_series(dir.path());
  ASSERT_OK(series.save(small_plan(), {.step = 1}));
  const Result<Checkpoint> checkpoint = Series::open_entry(*series.latest());
  const Result<SavePlan> plan = make_plan(*checkpoint);
  ASSERT_OK(plan);
  MemoryCopy memory;
  const std::optional<SavePlan> copy = memory.copy(*plan);
  ASSERT_TRUE(copy);
  EXPECT_TRUE(std::holds_alternative<TensorRef>(copy->items[0].from));
  ASSERT_OK(series.save_async(*plan, {.step = 2})->wait());
  EXPECT_EQ(bytes_of(*series.latest()), "0123456789");
}

TEST(SaveAsync, TheNextOneWaitsForTheOneBefore) {
  const TempDir dir;
  Gate gate;
  Series series = open_series(dir.path(), {.file = {.progress = gate.callback()}});
  const Result<PendingSave> first = series.save_async(small_plan(), {.step = 1});
  ASSERT_OK(first);
  std::thread opener([&] { gate.open(); });
  const Result<PendingSave> second = series.save_async(small_plan(), {.step = 2});
  opener.join();
  EXPECT_TRUE(first->ready());
  ASSERT_OK(second);
  ASSERT_OK(series.save(small_plan(), {.step = 3}));
  EXPECT_TRUE(second->ready());
  EXPECT_EQ(steps_in(dir.path()), (Steps{1, 2, 3}));
}

TEST(SaveAsync, TheNextCallGivesAnErrorThatNobodyHad) {
  const TempDir dir;
  Series series = open_series(dir.path());
  ASSERT_OK(series.save(small_plan(), {.step = 5}));
  ASSERT_OK(series.save_async(small_plan(), {.step = 5}));
  EXPECT_ERROR(series.save_async(small_plan(), {.step = 6}), step_not_after);
  EXPECT_OK(series.save_async(small_plan(), {.step = 6}));
  EXPECT_OK(series.prune());
  ASSERT_OK(series.save_async(small_plan(), {.step = 5}));
  EXPECT_ERROR(series.roll_back(5), step_not_after);
  EXPECT_EQ(steps_in(dir.path()), (Steps{5, 6}));
}

TEST(SaveAsync, AnErrorThatSomebodyHadIsNotGivenAgain) {
  const TempDir dir;
  Series series = open_series(dir.path());
  ASSERT_OK(series.save(small_plan(), {.step = 5}));
  const Result<PendingSave> pending = series.save_async(small_plan(), {.step = 5});
  EXPECT_ERROR(pending->wait(), step_not_after);
  EXPECT_OK(series.save(small_plan(), {.step = 6}));
  EXPECT_ERROR(pending->wait(), step_not_after);
}

TEST(SaveAsync, DestructionWaitsAndTheHandleStaysGood) {
  const TempDir dir;
  std::optional<PendingSave> pending;
  {
    Series series = open_series(dir.path());
    pending = *series.save_async(small_plan(), {.step = 1});
    Series moved = std::move(series);
    Series assigned = open_series(dir / "other");
    assigned = std::move(moved);
  }
  EXPECT_TRUE(pending->ready());
  EXPECT_OK(pending->wait());
  EXPECT_EQ(steps_in(dir.path()), Steps{1});
}

TEST(SaveAsync, AnAssignedSeriesWaitsForItsOwn) {
  const TempDir dir;
  Series series = open_series(dir.path());
  const Result<PendingSave> pending = series.save_async(small_plan(), {.step = 1});
  series = open_series(dir / "other");
  EXPECT_TRUE(pending->ready());
  EXPECT_OK(pending->wait());
}

TEST(SaveAsync, AnEmptyPlanIsSaved) {
  const TempDir dir;
  Series series = open_series(dir.path());
  EXPECT_OK(series.save_async(SavePlan(), {.step = 1})->wait());
  EXPECT_EQ(steps_in(dir.path()), Steps{1});
}

TEST(SaveAsync, SeveralThreadsCopyTheSameBytes) {
  std::string bytes((100 << 20) + 12345, '\0');
  for (std::size_t i = 0; i < bytes.size(); i += 1009) bytes[i] = static_cast<char>(i / 1009);
  MemoryCopy memory;
  const std::optional<SavePlan> copy = memory.copy(plan_of(bytes), 4);
  ASSERT_TRUE(copy);
  EXPECT_TRUE(as_text(std::get<0>(copy->items[0].from)) == bytes);
}

TEST(SaveAsync, MemoryIsKeptForTheNextCopy) {
  MemoryCopy memory;
  const std::string bytes(1 << 20, 'x');
  const auto place = [&](std::string_view text) {
    const std::optional<SavePlan> copy = memory.copy(plan_of(text));
    return copy ? std::get<0>(copy->items[0].from).data() : nullptr;
  };
  const std::byte* const first = place(bytes);
  ASSERT_NE(first, nullptr);
  EXPECT_NE(first, as_bytes(bytes).data());
  EXPECT_EQ(place(bytes), first);
  EXPECT_EQ(place("short"), first);
  EXPECT_EQ(place(bytes), first);
}

TEST(SaveAsync, WithoutMemoryItSavesBeforeItReturns) {
#if FLATBED_SANITIZED
  GTEST_SKIP() << "a sanitizer needs the memory";
#endif
  const TempDir dir;
  const std::string bytes(256 << 20, 'x');
  const pid_t child = ::fork();
  if (child == 0) {
    Series series = open_series(dir.path(), {.file = {.threads = 1}});
    // Enough for a save, and less than a copy takes.
    if (!test::limit_memory(128 << 20)) ::_exit(2);
    const Result<PendingSave> pending = series.save_async(plan_of(bytes), {.step = 1});
    if (!pending || !pending->ready()) ::_exit(3);
    const Result<SeriesSave> saved = pending->wait();
    if (!saved) ::_exit(4);
    ::_exit(saved->notes.size() == 1 && saved->notes[0].find("memory") != std::string::npos ? 0
                                                                                            : 5);
  }
  int status = 1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << WEXITSTATUS(status);
  EXPECT_EQ(steps_in(dir.path()), Steps{1});
}

}  // namespace
}  // namespace flatbed
