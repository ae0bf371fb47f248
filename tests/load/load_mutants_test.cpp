// load(): what nothing but a check by mutation (tests/mutation) showed to be untested.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/str_cat.hpp"
#include "flatbed/load.hpp"
#include "io/digest.hpp"
#include "io/file.hpp"
#include "io/page_cache.hpp"
#include "load/load_hooks.hpp"
#include "load/load_plan.hpp"
#include "load/load_progress.hpp"
#include "load/load_schedule.hpp"
#include "load/staging_pool.hpp"
#include "support/expect_error.hpp"
#include "support/fake_device.hpp"
#include "support/fault_io.hpp"
#include "support/load_model.hpp"
#include "support/page_cache.hpp"
#include "support/process_memory.hpp"
#include "support/sanitizers.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::FakeDevice;
using test::FaultIo;
using test::fill;
using test::IoCall;
using test::kChunk;
using test::ModelTensor;
using test::nth;
using test::Target;
using test::TempDir;
using test::write_model;
using ::testing::HasSubstr;

constexpr StagingOptions kTwoSlots{.staging_nbytes = 1 << 20, .slot_nbytes = 512 << 10};

// A file of tensors of bytes.
struct Model {
  TempDir dir;
  std::vector<ModelTensor> tensors;
  Checkpoint checkpoint;

  explicit Model(const std::vector<std::uint64_t>& sizes) : checkpoint(write(sizes)) {}
  Checkpoint write(const std::vector<std::uint64_t>& sizes) {
    for (std::size_t i = 0; i < sizes.size(); ++i)
      tensors.push_back({str_cat("t", i), Dtype::u8, {sizes[i]}});
    fill(tensors);
    return write_model(dir / "a.safetensors", tensors);
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

// How many slots of a pool are free.
std::size_t free_slots(StagingPool& pool) {
  const StagingSlots slots(pool);
  std::vector<std::uint32_t> taken;
  while (const std::optional<std::uint32_t> slot = slots.try_take()) taken.push_back(*slot);
  for (const std::uint32_t slot : taken) slots.give_back(slot);
  return taken.size();
}

// ---- destinations -------------------------------------------------------------------------------

// The first two share an extent and no byte: the third shares bytes with the second alone.
TEST(LoadDestinationsTogether, AnOverlapIsFoundBehindOneThatIsNone) {
  const TempDir dir;
  std::vector<ModelTensor> tensors{
      {"a", Dtype::u8, {16, 16}}, {"b", Dtype::u8, {16, 16}}, {"c", Dtype::u8, {4}}};
  fill(tensors);
  const Checkpoint checkpoint = write_model(dir / "a", tensors);
  std::vector<std::byte> memory(16 * 32);
  LoadPlan plan;
  ASSERT_OK(plan.add(checkpoint, "a", {nullptr, memory.data(), 16 * 32, 32}));
  ASSERT_OK(plan.add(checkpoint, "b", {nullptr, memory.data() + 16, 16 * 32 - 16, 32}));
  ASSERT_OK(plan.check());
  ASSERT_OK(plan.add(checkpoint, "c", {nullptr, memory.data() + 32 * 5 + 20, 4, 0}));
  EXPECT_ERROR(plan.check(), destination_overlap);
}

TEST(LoadDestinationsTogether, NoneGoesBeyondTheEndOfMemory) {
  const Model model({8192});
  LoadPlan plan;
  // The address is only looked at.
  void* const last_page = reinterpret_cast<void*>(~std::uintptr_t{0} - 4095);
  EXPECT_ERROR(plan.add(model.checkpoint, "t0", {nullptr, last_page, 8192, 0}),
               destination_invalid);
  EXPECT_EQ(plan.size(), 0u);
}

// A copy of memory onto itself would change nothing but the time.
TEST(LoadInPlace, CopiesNothing) {
  const Model model({3 * kChunk + 5});
  Target target(3 * kChunk + 5);
  LoadPlan plan;
  ASSERT_OK(plan.add(model.checkpoint, "t0", target.destination()));
  LoadHooks ticking;
  ticking.now_ns = [now = std::uint64_t{0}]() mutable { return ++now; };
  ticking.bounce = false;
  const auto report = load_with_hooks(plan, {.io = IoMode::buffered, .threads = 1}, ticking);
  ASSERT_OK(report);
  EXPECT_TRUE(target.bytes() == model.tensors[0].bytes);
  EXPECT_GT(report->hash_seconds, 0.0);
  EXPECT_EQ(report->submit_seconds, 0.0);
}

// Loads the tensor once for each target, on one thread that gets no more memory once it reads, in a
// process of its own. The message of the error, or "" if that could not be arranged.
std::string error_without_memory(const Model& model, bool bounce, std::size_t targets) {
  const TempDir dir;
  const pid_t child = ::fork();
  if (child == 0) {
    std::vector<Target> places(targets, Target(model.tensors[0].bytes.size()));
    LoadPlan plan;
    for (Target& place : places) {
      if (!plan.add(model.checkpoint, "t0", place.destination())) ::_exit(1);
    }
    LoadHooks limited = hooks();
    limited.bounce = bounce;
    limited.lease = false;
    limited.enter = [] {
      if (!test::use_up_memory()) ::_exit(2);
    };
    const auto report = load_with_hooks(plan, {.io = IoMode::buffered, .threads = 1}, limited);
    if (report) ::_exit(3);
    if (report.error().code != ErrorCode::resource_exhausted) ::_exit(4);
    test::write_file(dir / "message", report.error().message);
    ::_exit(0);
  }
  int status = 1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << WEXITSTATUS(status);
  return status == 0 ? test::read_file(dir / "message") : "";
}

TEST(LoadInPlace, NamesMemoryThatRunsOut) {
  if (FLATBED_SANITIZED) GTEST_SKIP() << "a sanitizer needs the memory";
  const Model model({3 * kChunk + 5});
  EXPECT_THAT(error_without_memory(model, true, 1), HasSubstr("no memory for 524288 bytes"));
  // What two destinations want is read beside both.
  EXPECT_THAT(error_without_memory(model, false, 2), HasSubstr("no memory for 2097152 bytes"));
}

TEST(HostMemory, ThatIsNotThereIsAnError) {
  if (FLATBED_SANITIZED) GTEST_SKIP() << "a sanitizer ends the process that asks for so much";
  const std::unique_ptr<Device> host = host_device();
  EXPECT_ERROR(host->memory()->allocate(std::uint64_t{1} << 60), resource_exhausted);
  EXPECT_ERROR(host->stage(std::size_t{1} << 60), resource_exhausted);
}

// ---- digests ------------------------------------------------------------------------------------

TEST(LoadVerifyShared, AChunkThatTwoSlicesNeedIsHashedOnce) {
  const Model model({3 * kChunk});
  FakeDevice device;
  for (Device* to : {static_cast<Device*>(nullptr), static_cast<Device*>(&device)}) {
    Target a(1000);
    Target b(1000);
    LoadPlan plan;
    ASSERT_OK(plan.add(model.checkpoint, "t0", a.destination(to), {.slice = {0, 0, 1000}}));
    ASSERT_OK(plan.add(model.checkpoint, "t0", b.destination(to), {.slice = {0, 5000, 6000}}));
    const Result<LoadReport> report = load(plan, {.staging_nbytes = 1 << 20});
    ASSERT_OK(report);
    EXPECT_EQ(report->chunks_verified, 1u);
    EXPECT_EQ(report->bytes_verified, kChunk);
  }
}

// ---- staging ------------------------------------------------------------------------------------

// Through the page cache a slot is filled in steps of a MiB.
TEST(LoadStaged, FillsLargeSlotsStepByStep) {
  const Model model({5 << 20});
  FakeDevice device;
  Target target(5 << 20);
  LoadPlan plan;
  ASSERT_OK(plan.add(model.checkpoint, "t0", target.destination(&device)));
  const Result<LoadReport> report =
      load(plan, {.io = IoMode::buffered, .staging_nbytes = 16 << 20, .slot_nbytes = 8 << 20});
  ASSERT_OK(report);
  EXPECT_TRUE(target.bytes() == model.tensors[0].bytes);
  EXPECT_EQ(report->chunks_verified, 20u);
}

TEST(LoadStaged, AStepThatFailsIsTheLastOne) {
  const Model model({5 << 20});
  FakeDevice device;
  Target target(5 << 20);
  LoadPlan plan;
  ASSERT_OK(plan.add(model.checkpoint, "t0", target.destination(&device)));
  FaultIo faults("a.safetensors");
  faults.fail(IoCall::read, nth(2), EIO);
  EXPECT_ERROR(
      load(plan, {.io = IoMode::buffered, .staging_nbytes = 16 << 20, .slot_nbytes = 8 << 20}),
      io_error);
  EXPECT_EQ(faults.count(IoCall::read), 2u);
  EXPECT_EQ(device.copies(), 0);
}

TEST(LoadStaged, GivesItsSlotsBackWhenReadingFails) {
  const Model model({3 << 20});
  FakeDevice device;
  const std::unique_ptr<StagingPool> pool = StagingPool::create(device, kTwoSlots).value();
  Target target(3 << 20);
  LoadPlan plan;
  ASSERT_OK(plan.add(model.checkpoint, "t0", target.destination(&device)));
  for (std::uint64_t n = 1; n < 5; ++n) {
    FaultIo faults("a.safetensors");
    faults.fail(IoCall::read, nth(n), EIO);
    EXPECT_ERROR(load(plan, {.io = IoMode::buffered, .pool = pool.get()}), io_error);
    EXPECT_EQ(free_slots(*pool), 2u) << n;
  }
}

// Of each row half is wanted: the holes are not read, and each run of bytes is a read of its own.
struct Columns {
  TempDir dir;
  std::vector<ModelTensor> tensors{{"t", Dtype::u8, {40, 16'384}}};
  Checkpoint checkpoint = write();
  FakeDevice device;
  Target target{40 * 8192};
  LoadPlan plan;
  std::atomic<bool> cancel = false;
  int reads = 0;
  int failing = 0;     // the read that fails, from 1
  int cancelling = 0;  // the read during which the load is cancelled

  Checkpoint write() {
    fill(tensors);
    return write_model(dir / "a.safetensors", tensors, false);
  }
  Result<LoadReport> run() {
    LoadHooks world = hooks();
    world.read = [this](std::uint32_t, std::uint64_t offset,
                        std::span<std::byte> out) -> Result<void> {
      ++reads;
      cancel = reads == cancelling;
      if (reads == failing) return Error{ErrorCode::io_error, "the disk is gone"};
      const std::string bytes = test::read_file(dir / "a.safetensors");
      std::memcpy(out.data(), bytes.data() + offset, out.size());
      return {};
    };
    reads = 0;
    plan = LoadPlan();
    FLATBED_TRY(plan.add(checkpoint, "t", target.destination(&device), {.slice = {1, 0, 8192}}));
    return load_with_hooks(plan, {.io = IoMode::buffered, .threads = 1, .cancel = &cancel}, world);
  }
};

TEST(LoadSparse, NamesAReadThatFails) {
  Columns a;
  ASSERT_OK(a.run());
  ASSERT_EQ(a.reads, 40);
  EXPECT_TRUE(a.target.bytes() == test::slice_of(a.tensors[0], 1, 0, 8192));
  for (const int failing : {1, 2, 39, 40}) {
    a.failing = failing;
    const auto report = a.run();
    EXPECT_ERROR(report, io_error);
    EXPECT_EQ(a.reads, failing);
  }
}

TEST(LoadSparse, EndsBetweenReadsWhenCancelled) {
  Columns a;
  a.cancelling = 3;
  EXPECT_ERROR(a.run(), cancelled);
  EXPECT_EQ(a.reads, 3);
  EXPECT_EQ(a.device.copies(), 0);
}

TEST(LoadStaged, GivesItsSlotsBackWhenItIsCancelledBetweenReadingAndCopying) {
  const Model model({3 << 20});
  FakeDevice device;
  const std::unique_ptr<StagingPool> pool = StagingPool::create(device, kTwoSlots).value();
  Target target(3 << 20);
  LoadPlan plan;
  ASSERT_OK(plan.add(model.checkpoint, "t0", target.destination(&device)));
  std::atomic<bool> cancel = false;
  LoadHooks world = hooks();
  world.hash = [&](std::span<const std::byte> bytes) {
    cancel = true;
    return xxh3(bytes);
  };
  EXPECT_ERROR(load_with_hooks(plan, {.threads = 2, .pool = pool.get(), .cancel = &cancel}, world),
               cancelled);
  EXPECT_EQ(device.copies(), 0);
  EXPECT_EQ(free_slots(*pool), 2u);
}

// What an earlier load left to a device is not this one's.
TEST(LoadStaged, SaysNothingOfWhatWasAbandonedBefore) {
  const Model model({3 << 20});
  FakeDevice device;
  const std::unique_ptr<StagingPool> pool =
      StagingPool::create(device, {.staging_nbytes = 3 << 19, .slot_nbytes = 1 << 19}).value();
  const StagingSlots slots(*pool);
  slots.abandon(slots.try_take().value());
  Target target(3 << 20);
  LoadPlan plan;
  ASSERT_OK(plan.add(model.checkpoint, "t0", target.destination(&device)));
  FaultIo faults("a.safetensors");
  faults.fail(IoCall::read, nth(2), EIO);
  const Result<LoadReport> report = load(plan, {.io = IoMode::buffered, .pool = pool.get()});
  EXPECT_ERROR(report, io_error);
  EXPECT_EQ(report.error().message.find("may still read"), std::string::npos)
      << report.error().message;
}

// One slot holds bytes for four devices: the copies that the others have begun are waited for, and
// their tickets given up.
TEST(LoadStaged, GivesUpTheTicketsOfItsOtherDevicesWhenOneFails) {
  const Model model({1000, 1000, 1000, 1000});
  for (std::size_t failing = 0; failing < 4; ++failing) {
    std::vector<std::unique_ptr<FakeDevice>> devices;
    std::vector<Target> targets(4, Target(1000));
    LoadPlan plan;
    for (std::size_t i = 0; i < 4; ++i) {
      devices.push_back(std::make_unique<FakeDevice>(str_cat("fake", i)));
      ASSERT_OK(plan.add(model.checkpoint, model.tensors[i].name,
                         targets[i].destination(devices[i].get())));
    }
    devices[failing]->faults.copy = 1;
    const std::unique_ptr<StagingPool> pool = StagingPool::create(*devices[0], kTwoSlots).value();
    const Result<LoadReport> report = load(plan, {.pool = pool.get()});
    EXPECT_ERROR(report, device_error);
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(devices[i]->open_tickets(), 0u) << failing << " " << i;
      EXPECT_EQ(devices[i]->pending(), 0u) << failing << " " << i;
    }
    EXPECT_EQ(free_slots(*pool), 2u);
  }
}

// What lies in memory as it does in the file, modulo a block.
TEST(LoadInPlace, GoesPastThePageCacheWithoutASlot) {
  const Model model({300'000});
  const TensorInfo* const tensor = model.checkpoint.find("t0");
  Target target(300'000, tensor->where.offset % 4096);
  LoadPlan plan;
  ASSERT_OK(plan.add(model.checkpoint, "t0", target.destination()));
  const FaultIo calls("a.safetensors");
  const Result<LoadReport> report = load(plan, {.io = IoMode::direct});
  ASSERT_OK(report);
  EXPECT_TRUE(target.bytes() == model.tensors[0].bytes);
  EXPECT_TRUE(target.border_is_whole());
  EXPECT_EQ(report->peak_staging_nbytes, 0u);
  if (report->files_direct == 0) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
  EXPECT_GT(calls.direct_reads(), 0u);
}

TEST(LoadAutomatic, GoesPastThePageCacheWhereAFileIsNotInIt) {
  const Model model({10 << 20});
  FakeDevice device;
  Target target(10 << 20);
  LoadPlan plan;
  ASSERT_OK(plan.add(model.checkpoint, "t0", target.destination(&device)));
  const auto is_direct = [&] {
    return make_schedule(LoadPlanAccess::state(plan), {true, IoMode::automatic, 1 << 20})
        .files[0]
        .direct;
  };
  EXPECT_FALSE(is_direct());  // it has just been written
  const bool dropped = test::drop_from_cache(model.dir / "a.safetensors");
  const File file = File::open(model.dir / "a.safetensors").value();
  if (!dropped || cached_fraction(file, 0, file.size()).value_or(1) > 0.1)
    GTEST_SKIP() << "the pages were not dropped";
  EXPECT_TRUE(is_direct());
}

// ---- groups -------------------------------------------------------------------------------------

// Of the group's two jobs the last is the host's: it queues the fence of the device.
TEST(LoadGroupOfTwoKinds, FailsWithTheFenceThatItsLastJobCannotQueue) {
  const Model first({100'000});
  const Model second({100'000});
  FakeDevice device;
  std::vector<Target> targets(2, Target(100'000));
  LoadPlan plan;
  ASSERT_OK(plan.add(first.checkpoint, "t0", targets[0].destination(&device)));
  ASSERT_OK(plan.add(second.checkpoint, "t0", targets[1].destination()));
  device.faults.fence = 1;
  int ready = 0;
  EXPECT_ERROR(load(plan, {.threads = 1,
                           .ready = [&](const GroupReady&) -> Result<void> {
                             ++ready;
                             return {};
                           }}),
               device_error);
  EXPECT_EQ(ready, 0);
}

TEST(LoadGroupOfManyDevices, GivesUpTheEventsOfTheOthersWhenOneHasNone) {
  const Model model({1000, 1000, 1000, 1000});
  for (std::size_t failing = 0; failing < 4; ++failing) {
    std::vector<std::unique_ptr<FakeDevice>> devices;
    std::vector<Target> targets(4, Target(1000));
    LoadPlan plan;
    for (std::size_t i = 0; i < 4; ++i) {
      devices.push_back(std::make_unique<FakeDevice>(str_cat("fake", i)));
      ASSERT_OK(plan.add(model.checkpoint, model.tensors[i].name,
                         targets[i].destination(devices[i].get()), {.group = {7, 0}}));
    }
    devices[failing]->faults.fence = 1;
    int ready = 0;
    const Result<LoadReport> report = load(plan, {.ready = [&](const GroupReady&) -> Result<void> {
                                             ++ready;
                                             return {};
                                           }});
    EXPECT_ERROR(report, device_error);
    EXPECT_NE(report.error().message.find("group 7"), std::string::npos) << report.error().message;
    EXPECT_EQ(ready, 0);
    for (const auto& device : devices) EXPECT_EQ(device->open_tickets(), 0u) << failing;
  }
}

TEST(LoadGroupOfManyDevices, FailsWithoutAnEventAndGivesItsTicketUp) {
  const Model model({1000});
  FakeDevice device;
  Target target(1000);
  LoadPlan plan;
  ASSERT_OK(plan.add(model.checkpoint, "t0", target.destination(&device)));
  device.faults.no_events = true;
  EXPECT_ERROR(load(plan, {.ready = [](const GroupReady&) -> Result<void> {
                      ADD_FAILURE();
                      return {};
                    }}),
               device_error);
  EXPECT_EQ(device.open_tickets(), 0u);
}

// Who waits does not sleep on while there is something to do.
class LoadGroupsWait : public testing::Test {
 protected:
  LoadGroupsWait() {
    EXPECT_OK(plan_.add(model_.checkpoint, "t0", target_.destination()));
    schedule_ = make_schedule(state(), {true, IoMode::buffered, 1 << 20});
    groups_.emplace(state(), schedule_, false);
  }
  [[nodiscard]] const LoadPlanState& state() const { return LoadPlanAccess::state(plan_); }
  // Whether wait() ends long before its patience does, when `work` is done meanwhile.
  template <typename Work>
  bool wakes(Work work) {
    constexpr std::chrono::hours kPatience(1);  // ctest has less
    const auto begin = std::chrono::steady_clock::now();
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      work();
    });
    groups_->wait(kPatience);
    other.join();
    return std::chrono::steady_clock::now() - begin < kPatience;
  }

  Model model_{{1000}};
  Target target_{1000};
  LoadPlan plan_;
  Schedule schedule_;
  std::optional<LoadGroups> groups_;
};

TEST_F(LoadGroupsWait, EndsWhenTheReadersAreDone) {
  EXPECT_TRUE(wakes([&] { groups_->readers_done(); }));
  EXPECT_TRUE(groups_->finished());
}

TEST_F(LoadGroupsWait, EndsWhenAGroupIsComplete) {
  ASSERT_EQ(schedule_.jobs.size(), 1u);
  EXPECT_TRUE(wakes([&] { EXPECT_OK(groups_->job_done(schedule_.jobs[0], 1000)); }));
  EXPECT_FALSE(groups_->finished());
  EXPECT_TRUE(groups_->ready_group().has_value());
}

// The event of a group is given up when its turn is over, and not again at the end.
TEST(LoadGroupsTurn, EndsWithTheEvent) {
  const Model model({1000, 1000});
  FakeDevice device;
  std::vector<Target> targets(2, Target(1000));
  LoadPlan plan;
  for (std::uint32_t i = 0; i < 2; ++i) {
    ASSERT_OK(plan.add(model.checkpoint, model.tensors[i].name, targets[i].destination(&device),
                       {.group = {i, 0}}));
  }
  const LoadPlanState& state = LoadPlanAccess::state(plan);
  const Schedule schedule = make_schedule(state, {true, IoMode::buffered, 1 << 20});
  LoadGroups groups(state, schedule, true);
  ASSERT_EQ(schedule.jobs.size(), 2u);
  for (const Job& job : schedule.jobs) ASSERT_OK(groups.job_done(job, job.read_nbytes));
  EXPECT_EQ(device.open_tickets(), 2u);
  const std::optional<GroupReady> first = groups.ready_group();
  ASSERT_TRUE(first && first->events.size() == 1 && first->events[0].event != nullptr);
  groups.next_group();
  EXPECT_EQ(device.open_tickets(), 1u);
  groups.forget_events();
  EXPECT_EQ(device.open_tickets(), 0u);
  EXPECT_EQ(device.forgotten_twice(), 0);
}

TEST(LoadGroupOfManyDevices, HasNoEventsWhereNobodyAsks) {
  const Model model({1000});
  FakeDevice device;
  Target target(1000);
  LoadPlan plan;
  ASSERT_OK(plan.add(model.checkpoint, "t0", target.destination(&device)));
  device.faults.fence = 1;
  EXPECT_OK(load(plan));
  EXPECT_TRUE(target.bytes() == model.tensors[0].bytes);
}

TEST(LoadStop, KeepsTheFirstError) {
  LoadStop stop(nullptr);
  EXPECT_FALSE(stop.stopped());
  EXPECT_OK(stop.result(0, 9));
  stop.fail(make_error(ErrorCode::io_error, "first"));
  stop.fail(make_error(ErrorCode::device_error, "second"));
  EXPECT_TRUE(stop.stopped());
  EXPECT_ERROR(stop.result(0, 9), io_error);
}

TEST(LoadStop, StaysStoppedWhenTheCallerTakesHisWishBack) {
  std::atomic<bool> cancel = true;
  LoadStop stop(&cancel);
  EXPECT_TRUE(stop.stopped());
  cancel = false;
  EXPECT_TRUE(stop.stopped());
  EXPECT_ERROR(stop.result(3, 9), cancelled);
  stop.fail(make_error(ErrorCode::io_error, "an error says more than a wish"));
  EXPECT_ERROR(stop.result(3, 9), io_error);
}

// ---- reports ------------------------------------------------------------------------------------

TEST(LoadReports, CountAllFiles) {
  const Model first({10'000});
  const Model second({20'000});
  std::vector<Target> targets(2, Target(20'000));
  LoadPlan plan;
  ASSERT_OK(plan.add(first.checkpoint, "t0", targets[0].destination()));
  ASSERT_OK(plan.add(second.checkpoint, "t0", targets[1].destination()));
  const Result<LoadReport> report = load(plan, {.io = IoMode::buffered});
  ASSERT_OK(report);
  EXPECT_EQ(report->bytes_read, 30'000u);
  EXPECT_EQ(report->files_buffered, 2u);
  EXPECT_EQ(report->files_direct, 0u);
}

TEST(LoadReports, CountTheMemoryThatWasUsedOnTheWay) {
  const Model model({10'000});
  FakeDevice device;
  Target target(10'000);
  LoadPlan plan;
  ASSERT_OK(plan.add(model.checkpoint, "t0", target.destination(&device)));
  const Result<LoadReport> staged =
      load(plan, {.staging_nbytes = 1 << 20, .slot_nbytes = 512 << 10});
  ASSERT_OK(staged);
  EXPECT_EQ(staged->peak_staging_nbytes, 512u << 10);

  // Halves of rows are read beside and copied.
  TempDir dir;
  std::vector<ModelTensor> matrix{{"m", Dtype::u8, {100, 100}}};
  fill(matrix);
  const Checkpoint checkpoint = write_model(dir / "a", matrix);
  LoadPlan halves;
  ASSERT_OK(halves.add(checkpoint, "m", target.destination(), {.slice = {1, 50, 100}}));
  const Result<LoadReport> beside = load(halves, {.threads = 1});
  ASSERT_OK(beside);
  EXPECT_EQ(beside->peak_staging_nbytes, 2u << 20);
}

TEST(LoadReports, ThatAnyOfTheFilesChanged) {
  for (const std::size_t changed : {0U, 1U}) {
    const Model models[] = {Model({10'000}), Model({10'000})};
    std::vector<Target> targets(2, Target(10'000));
    LoadPlan plan;
    for (std::size_t i = 0; i < 2; ++i)
      ASSERT_OK(plan.add(models[i].checkpoint, "t0", targets[i].destination()));
    const auto ready = [&](const GroupReady&) -> Result<void> {
      const std::filesystem::path path = models[changed].dir / "a.safetensors";
      std::filesystem::last_write_time(
          path, std::filesystem::last_write_time(path) + std::chrono::seconds(5));
      return {};
    };
    EXPECT_ERROR(load(plan, {.ready = ready}), file_changed) << changed;
  }
}

// Not more often than for each 8 MiB, however slow they are.
TEST(LoadReports, ProgressInLargeSteps) {
  const Model model({20 << 20});
  Target target(20 << 20);
  LoadPlan plan;
  ASSERT_OK(plan.add(model.checkpoint, "t0", target.destination()));
  std::vector<std::uint64_t> done{0};
  LoadHooks world = hooks();
  world.hash = [](std::span<const std::byte> bytes) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return xxh3(bytes);
  };
  const auto progress = [&](const Progress& at) -> Result<void> {
    done.push_back(at.bytes_done);
    return {};
  };
  ASSERT_OK(load_with_hooks(plan, {.threads = 1, .progress = progress}, world));
  EXPECT_EQ(done.back(), 20u << 20);
  for (std::size_t i = 1; i + 1 < done.size(); ++i) EXPECT_GE(done[i] - done[i - 1], 8u << 20);
}

// ---- tensors that do not lie in a file as they are ----------------------------------------------

class LoadContents : public testing::TestWithParam<std::string> {
 protected:
  Checkpoint checkpoint_ = Checkpoint::open(FLATBED_FIXTURES_DIR "/torch2/" + GetParam()).value();
};
INSTANTIATE_TEST_SUITE_P(Files, LoadContents,
                         testing::Values("complex_views.pth", "deflated.pth", "views.pth"),
                         [](const auto& file) {
                           return file.param.substr(0, file.param.find('.'));
                         });

TEST_P(LoadContents, AreReadyOnceTheyHaveArrivedAndTheirErrorsEndTheLoad) {
  for (const TensorInfo& tensor : checkpoint_.tensors()) {
    if (tensor.nbytes == 0) continue;
    FakeDevice device;
    const std::unique_ptr<StagingPool> pool = StagingPool::create(device, kTwoSlots).value();
    for (Device* to : {static_cast<Device*>(nullptr), static_cast<Device*>(&device)}) {
      SCOPED_TRACE(str_cat(tensor.name, to == nullptr ? ", host" : ", device"));
      Target target(tensor.nbytes);
      LoadPlan plan;
      ASSERT_OK(plan.add(checkpoint_, tensor.name, target.destination(to)));
      int ready = 0;
      std::uint64_t done = 0;
      const LoadOptions options{.pool = pool.get(),
                                .progress = [&](const Progress& at) -> Result<void> {
                                  done = at.bytes_done;
                                  return {};
                                },
                                .ready = [&](const GroupReady&) -> Result<void> {
                                  ++ready;
                                  return {};
                                }};
      const Result<LoadReport> report = load(plan, options);
      ASSERT_OK(report);
      EXPECT_EQ(ready, 1);
      EXPECT_GT(done, 0u);
      FaultIo faults(GetParam());
      faults.fail(IoCall::read, nth(1), EIO);
      const Result<LoadReport> failed = load(plan, options);
      EXPECT_ERROR(failed, io_error);
      EXPECT_NE(failed.error().message.find(str_cat("tensor '", tensor.name)), std::string::npos);
      EXPECT_EQ(ready, 1);
      EXPECT_EQ(free_slots(*pool), 2u);
      EXPECT_EQ(device.open_tickets(), 0u);
    }
    Target target(tensor.nbytes);
    LoadPlan plan;
    ASSERT_OK(plan.add(checkpoint_, tensor.name, target.destination(&device)));
    device.faults.copy = device.copies() + 1;
    EXPECT_ERROR(load(plan, {.pool = pool.get()}), device_error);
  }
}

// As FailsWithTheFenceThatItsLastJobCannotQueue.
TEST_P(LoadContents, FailWithTheFenceThatTheirGroupsLastJobCannotQueue) {
  for (const TensorInfo& tensor : checkpoint_.tensors()) {
    if (tensor.nbytes == 0) continue;
    FakeDevice device;
    std::vector<Target> targets(2, Target(tensor.nbytes));
    LoadPlan plan;
    ASSERT_OK(plan.add(checkpoint_, tensor.name, targets[0].destination(&device)));
    ASSERT_OK(plan.add(checkpoint_, tensor.name, targets[1].destination()));
    device.faults.fence = 1;
    EXPECT_ERROR(
        load(plan, {.threads = 1, .ready = [](const GroupReady&) -> Result<void> { return {}; }}),
        device_error);
  }
}

}  // namespace
}  // namespace flatbed
