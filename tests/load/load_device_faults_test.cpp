// load() onto a device that fails: each call of each kind in turn, for once and for ever.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/str_cat.hpp"
#include "flatbed/load.hpp"
#include "load/load_hooks.hpp"
#include "support/expect_error.hpp"
#include "support/fake_device.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using namespace std::chrono_literals;
using test::FakeDevice;
using test::fill;
using test::ModelTensor;
using test::Target;
using test::TempDir;
using test::write_model;

constexpr std::uint64_t kNbytes = 700'000;
constexpr StagingOptions kTwoSlots{.staging_nbytes = 1 << 20, .slot_nbytes = 512 << 10};

// Three tensors, each of which is a group.
struct Model {
  TempDir dir;
  std::vector<ModelTensor> tensors;
  Checkpoint checkpoint = write();
  Checkpoint write() {
    for (const char* name : {"a", "b", "c"}) tensors.push_back({name, Dtype::u8, {kNbytes}});
    fill(tensors);
    return write_model(dir / "a.safetensors", tensors);
  }
};

// One load of a model onto a device of its own, with a pool that outlives it.
struct Attempt {
  const Model& model;
  std::vector<Target> targets = std::vector<Target>(3, Target(kNbytes));
  FakeDevice device;
  std::unique_ptr<StagingPool> pool;
  LoadPlan plan;
  std::vector<std::uint32_t> ready;

  explicit Attempt(const Model& of) : model(of) {
    for (std::uint32_t i = 0; i < 3; ++i) {
      EXPECT_OK(plan.add(model.checkpoint, model.tensors[i].name, targets[i].destination(&device),
                         {.group = {i, 0}}));
    }
  }
  Result<LoadReport> run(LoadOptions options = {}, const LoadHooks* hooks = nullptr) {
    options.threads = 2;
    options.staging_nbytes = kTwoSlots.staging_nbytes;
    options.slot_nbytes = kTwoSlots.slot_nbytes;
    options.pool = pool.get();
    options.ready = [this](const GroupReady& group) -> Result<void> {
      ready.push_back(group.group);
      if (device.faults.never_done) return {};
      for (const GroupReady::Event& event : group.events) device.wait_for(event.event);
      EXPECT_TRUE(targets[group.group].bytes() == model.tensors[group.group].bytes);
      return {};
    };
    return hooks != nullptr ? load_with_hooks(plan, options, *hooks) : load(plan, options);
  }
  // Whatever came of it: no copy reads what was given back, and what is not given back is said.
  void expect_clean(const Result<LoadReport>& result) {
    EXPECT_FALSE(device.freed_under_copy());
    EXPECT_EQ(device.open_tickets(), 0u);
    for (Target& target : targets) EXPECT_TRUE(target.border_is_whole());
    const std::uint64_t left = pool ? pool->abandoned_nbytes() : device.staged_nbytes();
    if (left == 0) {
      EXPECT_EQ(device.pending(), 0u);
      return;
    }
    ASSERT_FALSE(result.has_value());
    EXPECT_NE(result.error().message.find("bytes of staging memory that a device may still read"),
              std::string::npos)
        << result.error().message;
  }
  void expect_arrived() {
    for (std::size_t i = 0; i < 3; ++i)
      EXPECT_TRUE(targets[i].bytes() == model.tensors[i].bytes) << i;
  }
};

struct Fault {
  const char* name;
  int FakeDevice::Faults::*call;
  bool for_ever;
  bool half_copy;
  bool with_pool;
  ErrorCode code;
};

class LoadDeviceFaults : public testing::TestWithParam<Fault> {};

TEST_P(LoadDeviceFaults, EndWithTheirErrorAndLeaveNothingUnderWay) {
  const Fault fault = GetParam();
  const Model model;
  bool fired = true;
  int n = 1;
  for (; fired && n < 200; ++n) {
    SCOPED_TRACE(str_cat("call ", n));
    Attempt attempt(model);
    if (fault.with_pool) attempt.pool = StagingPool::create(attempt.device, kTwoSlots).value();
    attempt.device.faults.*fault.call = n;
    attempt.device.faults.for_ever = fault.for_ever;
    attempt.device.faults.half_copy = fault.half_copy;
    attempt.device.not_ready = 1;
    const Result<LoadReport> result = attempt.run();
    attempt.expect_clean(result);
    fired = !result.has_value();
    if (!fired) {
      attempt.expect_arrived();
      EXPECT_EQ(attempt.ready, (std::vector<std::uint32_t>{0, 1, 2}));
      break;
    }
    EXPECT_TRUE(test::has_error(result, fault.code));
    EXPECT_NE(result.error().message.find("fake: "), std::string::npos) << result.error().message;
    if (!fault.for_ever && fault.call == &FakeDevice::Faults::copy) {
      EXPECT_EQ(result.error().message.find("may still read"), std::string::npos);
    }
    if (attempt.pool == nullptr || attempt.pool->abandoned_nbytes() != 0) continue;
    attempt.device.faults = {};  // the pool serves the next load
    attempt.ready.clear();
    EXPECT_OK(attempt.run());
    attempt.expect_arrived();
  }
  EXPECT_FALSE(fired);
  EXPECT_GT(n, 1);
}

std::vector<Fault> every_fault() {
  using Faults = FakeDevice::Faults;
  std::vector<Fault> out;
  for (const bool for_ever : {false, true}) {
    out.push_back(
        {"Check", &Faults::check, for_ever, false, false, ErrorCode::destination_invalid});
    out.push_back({"Stage", &Faults::stage, for_ever, false, false, ErrorCode::resource_exhausted});
    for (const bool with_pool : {false, true}) {
      for (const bool half : {false, true})
        out.push_back({"Copy", &Faults::copy, for_ever, half, with_pool, ErrorCode::device_error});
      out.push_back({"Fence", &Faults::fence, for_ever, false, with_pool, ErrorCode::device_error});
      out.push_back({"Done", &Faults::done, for_ever, false, with_pool, ErrorCode::device_error});
    }
  }
  return out;
}

std::string fault_name(const testing::TestParamInfo<Fault>& info) {
  const Fault& fault = info.param;
  return str_cat(fault.half_copy ? "Half" : "", fault.name, fault.for_ever ? "ForEver" : "Once",
                 fault.with_pool ? "WithPool" : "");
}

INSTANTIATE_TEST_SUITE_P(Calls, LoadDeviceFaults, testing::ValuesIn(every_fault()), fault_name);

// A device that cannot wake a thread is asked until it says yes.
TEST(DeviceWait, AsksAgainUntilTheTicketIsDone) {
  FakeDevice device;
  device.not_ready = 5;
  EXPECT_TRUE(device.wait(device.fence().value(), 1h).value());
  EXPECT_EQ(device.open_tickets(), 0u);
}

TEST(DeviceWait, EndsWithItsTime) {
  FakeDevice device;
  device.faults.never_done = true;
  const Ticket ticket = device.fence().value();
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_FALSE(device.wait(ticket, 2ms).value());
  EXPECT_FALSE(device.wait(ticket, 0ms).value());
  EXPECT_FALSE(device.wait(ticket, -1ms).value());
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 2ms);
  EXPECT_EQ(device.open_tickets(), 1u);
  device.forget(ticket);
}

TEST(LoadHungDevice, IsGivenUpAfterItsTime) {
  const Model model;
  Attempt attempt(model);
  attempt.device.faults.never_done = true;
  const Result<LoadReport> result = attempt.run({.device_timeout = 30ms});
  EXPECT_ERROR(result, device_timeout);
  EXPECT_NE(result.error().message.find("fake: copies were not complete after 30 ms"),
            std::string::npos)
      << result.error().message;
  EXPECT_GT(attempt.device.pending(), 0u);
  EXPECT_EQ(attempt.device.staged_nbytes(), kTwoSlots.staging_nbytes);
  attempt.expect_clean(result);
}

TEST(LoadHungDevice, IsGivenUpAtOnceWhereItHasNoTime) {
  const Model model;
  for (const auto timeout : {0ms, -1ms}) {
    Attempt attempt(model);
    attempt.device.faults.never_done = true;
    EXPECT_ERROR(attempt.run({.device_timeout = timeout}), device_timeout);
  }
}

TEST(LoadHungDevice, IsWaitedForOnceAlthoughManyCopiesAreQueued) {
  const Model model;
  Attempt attempt(model);
  attempt.pool =
      StagingPool::create(attempt.device, {.staging_nbytes = 8 << 20, .slot_nbytes = 1 << 19})
          .value();
  attempt.device.faults.never_done = true;
  // A clock that goes on where a thread waits, and only there.
  std::atomic<std::uint64_t> now_ns = 0;
  LoadHooks hooks;
  hooks.now_ns = [&] { return now_ns.load(); };
  hooks.wait = [&](Device& device, Ticket ticket, std::chrono::nanoseconds most) {
    now_ns += static_cast<std::uint64_t>(most.count());
    return device.wait(ticket, 0ns);
  };
  EXPECT_ERROR(attempt.run({.device_timeout = 200ms}, &hooks), device_timeout);
  EXPECT_LE(now_ns, 2 * 200'000'000U);  // of two threads
  // Only the slots that were in use: six at most.
  EXPECT_GT(attempt.pool->abandoned_nbytes(), 0u);
  EXPECT_LE(attempt.pool->abandoned_nbytes(), 6u << 19);
}

// Threads enter it when they begin. One enters it again, to wait for what a failed copy has left.
TEST(LoadDeviceInDoubt, KeepsItsMemoryIfItCannotBeEntered) {
  const Model model;
  bool was_left = false;
  for (int n = 1; n <= 6; ++n) {
    SCOPED_TRACE(n);
    Attempt attempt(model);
    attempt.pool = StagingPool::create(attempt.device, kTwoSlots).value();
    attempt.device.faults = {.copy = 1, .enter = n, .for_ever = true, .half_copy = true};
    const Result<LoadReport> result = attempt.run();
    EXPECT_ERROR(result, device_error);
    const bool left = attempt.device.pending() != 0;
    EXPECT_EQ(attempt.pool->abandoned_nbytes() != 0, left);
    was_left |= left;
    attempt.pool.reset();
    EXPECT_FALSE(attempt.device.freed_under_copy());
  }
  EXPECT_TRUE(was_left);
}

TEST(LoadHungDevice, CanBeCancelled) {
  const Model model;
  Attempt attempt(model);
  attempt.device.faults.never_done = true;
  std::atomic<bool> cancel = false;
  std::thread other([&] {
    while (attempt.device.copies() == 0) std::this_thread::yield();
    cancel = true;
  });
  const Result<LoadReport> result = attempt.run({.device_timeout = 60ms, .cancel = &cancel});
  other.join();
  // What is queued has to be waited for, and that fails.
  EXPECT_ERROR(result, device_timeout);
  attempt.expect_clean(result);
}

TEST(LoadSlowDevice, MayTakeAnyTimeWhereTheCallerHasAllOfIt) {
  const Model model;
  for (const auto timeout :
       {std::chrono::milliseconds::max(), std::chrono::milliseconds(20'000'000'000'000)}) {
    Attempt attempt(model);
    attempt.device.not_ready = 20;
    EXPECT_OK(attempt.run({.device_timeout = timeout}));
    attempt.expect_arrived();
  }
}

// Runs `act`; sets the flag when it hangs, and when it has ended.
void with_watch(std::atomic<bool>& cancel, const std::function<void()>& act) {
  std::atomic<bool> ended = false;
  std::thread watch([&] {
    for (int i = 0; i < 12'000 && !ended; ++i) std::this_thread::sleep_for(10ms);
    cancel = true;
  });
  act();
  ended = true;
  watch.join();
}

TEST(LoadHungDevice, LeavesNoSlotsForTheNextLoadWhichSaysSo) {
  const Model model;
  Attempt attempt(model);
  attempt.pool = StagingPool::create(attempt.device, kTwoSlots).value();
  attempt.device.faults.never_done = true;
  std::atomic<bool> cancel = false;
  with_watch(cancel, [&] {
    for (int i = 0; i < 2; ++i)  // the second for what the first may have left
      EXPECT_FALSE(attempt.run({.device_timeout = 5ms, .cancel = &cancel}));
    ASSERT_EQ(attempt.pool->abandoned_nbytes(), kTwoSlots.staging_nbytes);
    attempt.device.faults = {};
    const Result<LoadReport> result = attempt.run({.cancel = &cancel});
    EXPECT_ERROR(result, budget_too_small);
  });
}

}  // namespace
}  // namespace flatbed
