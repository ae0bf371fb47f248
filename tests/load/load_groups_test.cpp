// load(): when groups are ready, what progress says, and what cancelling leaves behind.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "base/str_cat.hpp"
#include "flatbed/load.hpp"
#include "io/digest.hpp"
#include "load/load_hooks.hpp"
#include "support/expect_error.hpp"
#include "support/fake_device.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::FakeDevice;
using test::fill;
using test::ModelTensor;
using test::Target;
using test::TempDir;
using test::write_model;

constexpr std::size_t kCount = 12;
constexpr std::uint64_t kNbytes = 3 << 20;

// Twelve tensors of 3 MiB, and room for them.
struct Example {
  TempDir dir;
  std::vector<ModelTensor> tensors;
  Checkpoint checkpoint = write();
  std::vector<Target> targets = std::vector<Target>(kCount, Target(kNbytes));
  FakeDevice device;
  LoadPlan plan;

  Checkpoint write() {
    for (std::size_t i = 0; i < kCount; ++i)
      tensors.push_back({str_cat("t", i), Dtype::u8, {kNbytes}});
    fill(tensors);
    return write_model(dir / "a.safetensors", tensors);
  }
  void add(std::size_t i, const Group& group, Device* to = nullptr) {
    EXPECT_OK(plan.add(checkpoint, tensors[i].name, targets[i].destination(to), {.group = group}));
  }
  [[nodiscard]] bool has_arrived(std::size_t i) { return targets[i].bytes() == tensors[i].bytes; }
  LoadOptions options(std::function<Result<void>(const GroupReady&)> ready = {}) {
    return {
        .threads = 3, .staging_nbytes = 4 << 20, .slot_nbytes = 1 << 20, .ready = std::move(ready)};
  }
};

// Hooks of the real world.
LoadHooks hooks() {
  LoadHooks out;
  out.now_ns = [] {
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                      std::chrono::nanoseconds(1));
  };
  return out;
}

TEST(LoadGroups, AreReadyInOrderOfPriorityOnceTheirBytesAreThere) {
  Example a;
  // Group i % 4 has the tensors i, i + 4, i + 8; 3 and 1 come first, 0 before 2 by their ids.
  constexpr std::int32_t kPriorities[] = {7, -2, 7, -5};
  for (std::uint32_t i = 0; i < kCount; ++i) a.add(i, {i % 4, kPriorities[i % 4]});
  std::vector<std::uint32_t> ready;
  ASSERT_OK(load(a.plan, a.options([&](const GroupReady& group) -> Result<void> {
    ready.push_back(group.group);
    EXPECT_TRUE(group.events.empty());
    for (std::size_t i = group.group; i < kCount; i += 4) EXPECT_TRUE(a.has_arrived(i)) << i;
    return {};
  })));
  EXPECT_EQ(ready, (std::vector<std::uint32_t>{3, 1, 0, 2}));
}

TEST(LoadGroups, ComeWithAnEventOfEachOfTheirDevices) {
  Example a;
  FakeDevice other("other");
  for (std::uint32_t i = 0; i < kCount; ++i) {
    const std::uint32_t group = i / 4;  // 0: of both devices and the host; 1: of one; 2: of none
    Device* const devices[] = {nullptr, &a.device, &other, &a.device};
    a.add(i, {group, static_cast<std::int32_t>(group)},
          group == 0   ? devices[i]
          : group == 1 ? &other
                       : nullptr);
  }
  std::vector<std::size_t> events;
  ASSERT_OK(load(a.plan, a.options([&](const GroupReady& group) -> Result<void> {
    events.push_back(group.events.size());
    for (const GroupReady::Event& event : group.events) {
      EXPECT_NE(event.event, nullptr);
      static_cast<FakeDevice*>(event.device)->wait_for(event.event);
    }
    for (std::size_t i = group.group * 4; i < group.group * 4 + 4; ++i)
      EXPECT_TRUE(a.has_arrived(i)) << i;
    return {};
  })));
  EXPECT_EQ(events, (std::vector<std::size_t>{2, 1, 0}));
  EXPECT_EQ(a.device.open_tickets(), 0u);
  EXPECT_EQ(other.open_tickets(), 0u);
}

TEST(LoadGroups, AreReadyToTheirTurnWhenNothingArrives) {
  Example a;
  std::byte nothing;
  const auto add_empty = [&](const Group& group) {
    EXPECT_OK(a.plan.add(a.checkpoint, "t0", {&a.device, &nothing, 1, 0},
                         {.slice = {0, 5, 5}, .group = group}));
  };
  add_empty({8, 9});
  a.add(1, {1, 1});
  add_empty({5, -1});
  add_empty({6, 1});
  std::vector<std::uint32_t> ready;
  const auto note = [&](const GroupReady& group) -> Result<void> {
    ready.push_back(group.group);
    EXPECT_TRUE(group.events.empty());
    return {};
  };
  ASSERT_OK(load(a.plan, a.options(note)));
  EXPECT_EQ(ready, (std::vector<std::uint32_t>{5, 1, 6, 8}));
}

TEST(LoadProgress, RisesToTheTotal) {
  Example a;
  for (std::uint32_t i = 0; i < kCount; ++i) a.add(i, {i, 0}, i % 2 == 0 ? &a.device : nullptr);
  std::vector<std::uint64_t> done;
  LoadOptions options = a.options();
  options.progress = [&](const Progress& progress) -> Result<void> {
    EXPECT_EQ(progress.bytes_total, kCount * kNbytes);
    done.push_back(progress.bytes_done);
    return {};
  };
  ASSERT_OK(load(a.plan, options));
  ASSERT_FALSE(done.empty());
  EXPECT_EQ(done.back(), kCount * kNbytes);
  EXPECT_EQ(std::ranges::adjacent_find(done, std::greater_equal<>()), done.end());
}

TEST(LoadProgress, IsNotReportedAfterAnError) {
  Example a;
  for (std::uint32_t i = 0; i < kCount; ++i) a.add(i, {i, 0});
  LoadOptions options = a.options();
  options.threads = 1;
  LoadHooks world = hooks();
  std::atomic<int> hashed = 0;
  std::atomic<bool> in_progress = false;
  std::atomic<bool> reader_has_ended = false;
  int calls = 0;
  // The first call lasts until a later chunk has turned out to be wrong, and the reader has said
  // so.
  options.progress = [&](const Progress&) -> Result<void> {
    ++calls;
    in_progress = true;
    while (!reader_has_ended) std::this_thread::yield();
    return {};
  };
  world.hash = [&](std::span<const std::byte> bytes) {
    if (++hashed < 100) return xxh3(bytes);
    while (!in_progress) std::this_thread::yield();
    return std::uint64_t{0};
  };
  world.leave = [&] { reader_has_ended = true; };
  EXPECT_ERROR(load_with_hooks(a.plan, options, world), chunk_corrupt);
  EXPECT_EQ(calls, 1);
}

// ---- errors of the callbacks --------------------------------------------------------------------

// Whatever is under way has ended, and neither callback is called again.
TEST(LoadCallbacks, StopTheLoadWithTheirErrors) {
  for (const bool from_ready : {true, false}) {
    for (const IoMode io : {IoMode::buffered, IoMode::direct}) {
      Example a;
      for (std::uint32_t i = 0; i < kCount; ++i) a.add(i, {i, 0}, i % 2 == 0 ? &a.device : nullptr);
      int errors = 0;
      const auto call = [&](bool fails) -> Result<void> {
        EXPECT_EQ(errors, 0);
        if (!fails) return {};
        ++errors;
        return make_error(ErrorCode::permission_denied, "the engine gave up");
      };
      LoadOptions options = a.options([&](const GroupReady&) { return call(from_ready); });
      options.progress = [&](const Progress&) { return call(!from_ready); };
      options.io = io;
      const Result<LoadReport> report = load(a.plan, options);
      EXPECT_ERROR(report, permission_denied);
      EXPECT_EQ(report.error().message, "the engine gave up");
      EXPECT_EQ(errors, 1);
      EXPECT_EQ(a.device.pending(), 0u);
      EXPECT_EQ(a.device.open_tickets(), 0u);
      EXPECT_EQ(a.device.staged_nbytes(), 0u);
      EXPECT_FALSE(a.device.freed_under_copy());
    }
  }
}

// The last group is ready when every byte has arrived: its error is the load's all the same.
TEST(LoadCallbacks, StopTheLoadAtTheLastGroupToo) {
  Example a;
  a.add(0, {1, 0});
  a.add(1, {2, 0});
  const auto ready = [](const GroupReady& group) -> Result<void> {
    if (group.group == 1) return {};
    return make_error(ErrorCode::permission_denied, "group 2");
  };
  EXPECT_ERROR(load(a.plan, a.options(ready)), permission_denied);
}

// Of an error and a wish to cancel the error says more.
TEST(LoadCallbacks, SayTheirErrorWhereTheyCancelToo) {
  Example a;
  a.add(0, {1, 0});
  std::atomic<bool> cancel = false;
  LoadOptions options = a.options([&](const GroupReady&) -> Result<void> {
    cancel = true;
    return make_error(ErrorCode::permission_denied, "no");
  });
  options.cancel = &cancel;
  EXPECT_ERROR(load(a.plan, options), permission_denied);
}

// ---- cancelling ---------------------------------------------------------------------------------

std::size_t entries(const char* folder) {
  const std::filesystem::directory_iterator all(folder);
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

// Whether the process comes to have no more threads than that. The kernel lists one that was joined
// a moment longer.
bool come_down_to(std::size_t threads) {
  constexpr std::chrono::minutes kLimit(5);
  const auto limit = std::chrono::steady_clock::now() + kLimit;
  while (entries("/proc/self/task") > threads) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::yield();
  }
  return true;
}

// Cancels with `when` in place. Nothing may be left, whatever `when` is.
void expect_cancelled(Example& a,
                      const std::function<void(LoadOptions&, std::atomic<bool>&)>& when) {
  for (const IoMode io : {IoMode::buffered, IoMode::direct}) {
    const std::size_t descriptors = entries("/proc/self/fd");
    const std::size_t threads = entries("/proc/self/task");
    std::atomic<bool> cancel = false;
    LoadOptions options = a.options();
    options.io = io;
    options.cancel = &cancel;
    when(options, cancel);
    const Result<LoadReport> result = load(a.plan, options);
    EXPECT_ERROR(result, cancelled);
    EXPECT_EQ(a.device.pending(), 0u);
    EXPECT_EQ(a.device.open_tickets(), 0u);
    EXPECT_EQ(a.device.staged_nbytes(), 0u);
    EXPECT_FALSE(a.device.freed_under_copy());
    EXPECT_EQ(entries("/proc/self/fd"), descriptors);
    EXPECT_TRUE(come_down_to(threads));
  }
}

TEST(LoadCancel, BeforeTheStart) {
  Example a;
  for (std::uint32_t i = 0; i < kCount; ++i) a.add(i, {i, 0}, i % 2 == 0 ? &a.device : nullptr);
  expect_cancelled(a, [](LoadOptions&, std::atomic<bool>& cancel) { cancel = true; });
  for (Target& target : a.targets)
    EXPECT_EQ(target.bytes().find_first_not_of('\x5c'), std::string_view::npos);
}

TEST(LoadCancel, FromTheReadyCallbackWhichIsNotCalledAgain) {
  Example a;
  for (std::uint32_t i = 0; i < kCount; ++i) a.add(i, {i, 0}, i % 2 == 0 ? &a.device : nullptr);
  int calls = 0;
  expect_cancelled(a, [&](LoadOptions& options, std::atomic<bool>& cancel) {
    options.ready = [&](const GroupReady&) -> Result<void> {
      ++calls;
      cancel = true;
      return {};
    };
  });
  EXPECT_EQ(calls, 2);  // once in each mode
}

TEST(LoadCancel, FromTheProgressCallback) {
  Example a;
  for (std::uint32_t i = 0; i < kCount; ++i) a.add(i, {i, 0}, i % 2 == 0 ? &a.device : nullptr);
  int calls = 0;
  expect_cancelled(a, [&](LoadOptions& options, std::atomic<bool>& cancel) {
    options.progress = [&](const Progress&) -> Result<void> {
      ++calls;
      cancel = true;
      return {};
    };
  });
  EXPECT_EQ(calls, 2);
}

TEST(LoadCancel, FromAnotherThread) {
  Example a;
  for (std::uint32_t i = 0; i < kCount; ++i) a.add(i, {i, 0}, i % 2 == 0 ? &a.device : nullptr);
  for (int round = 0; round < 10; ++round) {
    std::atomic<bool> cancel = false;
    LoadOptions options = a.options();
    options.cancel = &cancel;
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(300 * round));
      cancel = true;
    });
    const Result<LoadReport> result = load(a.plan, options);
    other.join();
    EXPECT_TRUE(result.has_value() || result.error().code == ErrorCode::cancelled);
    EXPECT_EQ(a.device.pending(), 0u);
    EXPECT_EQ(a.device.open_tickets(), 0u);
    EXPECT_EQ(a.device.staged_nbytes(), 0u);
  }
}

// The only job is read and hashed when the wish comes: it is not delivered, and not counted.
TEST(LoadCancel, DoesNotCountWhatWasNotDelivered) {
  Example a;
  ASSERT_OK(a.plan.add(a.checkpoint, "t0", a.targets[0].destination(&a.device),
                       {.slice = {0, 0, 200'000}}));
  std::atomic<bool> cancel = false;
  LoadHooks world = hooks();
  world.hash = [&](std::span<const std::byte> bytes) {
    cancel = true;
    return xxh3(bytes);
  };
  LoadOptions options = a.options([](const GroupReady&) -> Result<void> {
    ADD_FAILURE();
    return {};
  });
  options.cancel = &cancel;
  options.progress = [](const Progress&) -> Result<void> {
    ADD_FAILURE();
    return {};
  };
  const Result<LoadReport> result = load_with_hooks(a.plan, options, world);
  EXPECT_ERROR(result, cancelled);
  EXPECT_EQ(result.error().message, "interrupted at 0 B of 256.0 KiB");
  EXPECT_EQ(a.device.copies(), 0);
}

}  // namespace
}  // namespace flatbed
