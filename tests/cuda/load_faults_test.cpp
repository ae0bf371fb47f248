// load() to GPUs while CUDA fails: each call of each kind, at once, for ever, at its completion,
// for good, or by never ending. Nothing hangs, leaks or is freed too early; no group is ready whose
// bytes are wrong; the first error is what the caller gets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/str_cat.hpp"
#include "support/load_gpu.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::CallersThread;
using test::fill;
using test::Gpus;
using test::HastyClock;
using test::kChunk;
using test::LoadScene;
using test::make_gpus;
using test::ModelTensor;
using test::TempDir;
using test::write_model;
using testing::HasSubstr;
using testing::IsEmpty;
using Fault = Injection::Fault;

constexpr std::chrono::milliseconds kTimeout{200};

struct Model {
  Model() {
    fill(tensors);
    checkpoint = write_model(dir / "a", tensors);
  }
  TempDir dir;
  std::vector<ModelTensor> tensors{{"block", Dtype::u8, {kChunk + 5000}},
                                   {"rows", Dtype::f32, {40, 250}},
                                   {"host", Dtype::u8, {3000}},
                                   {"late", Dtype::u8, {kChunk}}};
  std::optional<Checkpoint> checkpoint;
};

struct Kind {
  std::string name;
  Injection injection;
  FakeCudaOptions fake = {};
  std::optional<Injection> also = {};
  friend void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }
};

struct Outcome {
  bool fired = false;
  std::optional<Error> error;
  std::set<std::uint32_t> groups;  // that were ready
  bool had_events = true;          // for each GPU of each of them
  bool groups_arrived = true;      // they had the right contents once all copies had run
  bool all_arrived = true;
  std::vector<std::string> misuse;
  std::vector<std::string> leaks;
};

// Runs on another thread than the caller's. Memory that a GPU may still write is not examined.
void wait_for_all(const Gpus& gpus) {
  std::thread([&gpus] {
    for (const auto& gpu : gpus) {
      EXPECT_OK(gpu->enter_thread());
      const Ticket fence = gpu->fence().value();
      while (!gpu->done(fence).value()) std::this_thread::yield();
    }
  }).join();
}

// What came of a load, once whatever was queued has run.
void look_at(const LoadScene& scene, Outcome& outcome) {
  for (const LoadScene::Target& target : scene.targets()) {
    EXPECT_TRUE(scene.border_is_whole(target));
    const bool arrived = scene.arrived(target);
    outcome.all_arrived &= arrived;
    outcome.groups_arrived &= arrived || !outcome.groups.contains(target.group);
  }
}

// Loads two groups to two GPUs and the host by way of two slots, so that each is used again.
Outcome run(const Model& model, const Kind& kind) {
  FakeCuda fake(kind.fake);
  Outcome outcome;
  {
    const Gpus gpus = make_gpus(fake, 2);
    LoadScene scene(fake, gpus);
    const std::vector<ModelTensor>& tensors = model.tensors;
    scene.add(*model.checkpoint, {&tensors[0], {}, 0, 0, {1}});
    scene.add(*model.checkpoint, {&tensors[1], {1, 50, 150}, 1, 8, {1}});
    scene.add(*model.checkpoint, {&tensors[2], {}, -1, 0, {1}});
    scene.add(*model.checkpoint, {&tensors[2], {}, 0, 0, {1}});  // a second piece of a batch
    scene.add(*model.checkpoint, {&tensors[3], {0, 10, 2000}, 1, 0, {2}});
    scene.add(*model.checkpoint, {&tensors[3], {0, 5000, kChunk}, 0, 0, {2}});
    LoadOptions options{.threads = 2,
                        .staging_nbytes = 1 << 20,
                        .slot_nbytes = 512 << 10,
                        .device_timeout = kTimeout};
    options.ready = [&](const GroupReady& ready) -> Result<void> {
      outcome.groups.insert(ready.group);
      for (const GroupReady::Event& each : ready.events)
        outcome.had_events &= each.event != nullptr;
      return {};
    };
    HastyClock clock;
    const CallersThread caller(fake);
    fake.fail(kind.injection);
    if (kind.also) fake.fail(*kind.also);
    const std::uint64_t calls = fake.calls(kind.injection.call);
    const Result<LoadReport> report = load_with_hooks(scene.plan, options, clock.hooks());
    caller.expect_untouched();
    outcome.fired = fake.calls(kind.injection.call) - calls >= kind.injection.nth;
    if (!report) outcome.error = report.error();
    // A sticky error ends the process, and there is no afterwards.
    if (kind.injection.fault != Fault::sticky || !outcome.fired) {
      fake.heal();
      wait_for_all(gpus);
      look_at(scene, outcome);
    }
  }
  outcome.misuse = fake.misuse();
  outcome.leaks = fake.leaks();
  return outcome;
}

// That the error is the injected one, and not one that followed from it.
void expect_first_error(const Injection& injection, const Error& error) {
  if (injection.fault == Fault::not_ready) {
    EXPECT_EQ(error.code, ErrorCode::device_timeout) << error.message;
    EXPECT_THAT(error.message, HasSubstr("copies were not complete after 200 ms"));
    return;
  }
  // Work queued after a group cannot be waited for.
  if (error.message.ends_with("there is no event that streams could wait for")) {
    EXPECT_EQ(error.code, ErrorCode::device_error);
    EXPECT_TRUE(injection.call.starts_with("Event")) << injection.call;
    return;
  }
  const bool no_memory = injection.code == cudaErrorMemoryAllocation;
  EXPECT_EQ(error.code, no_memory ? ErrorCode::resource_exhausted : ErrorCode::device_error);
  EXPECT_THAT(error.message, HasSubstr(FakeCuda::api().GetErrorName(injection.code)));
  const std::string call = str_cat("cuda", injection.call);
  if (injection.fault == Fault::error) {
    EXPECT_THAT(error.message, HasSubstr(call));
  }
}

// Leaks are what was left to a device on purpose, which the error says; and page-locked memory, and
// at worst all that a device has, where the GPU cannot be made current to give it back.
void expect_leaks(const Injection& injection, const Outcome& outcome) {
  const bool abandoned =
      outcome.error && outcome.error->message.find(
                           "bytes of staging memory that a device may still read are left to it") !=
                           std::string::npos;
  if (injection.fault == Fault::sticky) return;
  for (const std::string& leak : outcome.leaks) {
    const bool memory = leak.starts_with("registered memory") || leak.starts_with("pinned memory");
    EXPECT_TRUE(memory || (abandoned && leak.starts_with("nobody waited for copy"))) << leak;
    EXPECT_TRUE(abandoned || injection.call == "SetDevice") << leak;
  }
}

void expect_sound(const Kind& kind, const Outcome& outcome) {
  EXPECT_THAT(outcome.misuse, IsEmpty());
  EXPECT_TRUE(outcome.had_events);
  if (outcome.error) {
    expect_first_error(kind.injection, *outcome.error);
  } else {
    EXPECT_TRUE(outcome.all_arrived);
    EXPECT_EQ(outcome.groups.size(), 2U);
  }
  // Where copies are lost at their completion, a group was ready because they were queued.
  if (kind.injection.fault == Fault::error || kind.injection.fault == Fault::not_ready) {
    EXPECT_TRUE(outcome.groups_arrived);
  }
  expect_leaks(kind.injection, outcome);
}

class LoadFaults : public testing::TestWithParam<Kind> {};

TEST_P(LoadFaults, OfEachCallAreSurvived) {
  Kind kind = GetParam();
  const Model model;
  std::uint64_t faults = 0;
  for (const std::string_view call :
       {"SetDevice", "PointerGetAttributes", "HostRegister", "HostUnregister", "HostAlloc",
        "FreeHost", "MemcpyAsync", "Memcpy2DAsync", "MemcpyBatchAsync", "EventCreateWithFlags",
        "EventRecord", "EventQuery"}) {
    kind.injection.call = call;
    for (kind.injection.nth = 1; kind.injection.nth < 500; ++kind.injection.nth) {
      SCOPED_TRACE(str_cat(call, " ", kind.injection.nth));
      const Outcome outcome = run(model, kind);
      if (!outcome.fired) {
        EXPECT_FALSE(outcome.error);
        EXPECT_TRUE(outcome.all_arrived);
        EXPECT_THAT(outcome.leaks, IsEmpty());
        break;
      }
      ++faults;
      expect_sound(kind, outcome);
    }
    EXPECT_LT(kind.injection.nth, 500U);
    if (call == "MemcpyBatchAsync") {
      EXPECT_GT(kind.injection.nth, 1U);
    }
  }
  EXPECT_GT(faults, 30U);
}

// In every order of running, and with either kind of page-locked memory.
std::vector<Kind> kinds() {
  const Kind faults[]{
      {"Once", {.code = cudaErrorUnknown}},
      {"ForEver", {.code = cudaErrorUnknown, .forever = true}},
      {"NoMemoryOnce", {.code = cudaErrorMemoryAllocation}},
      {"NoMemoryForEver", {.code = cudaErrorMemoryAllocation, .forever = true}},
      {"AtCompletion", {.fault = Fault::at_completion, .code = cudaErrorLaunchFailure}},
      {"AtCompletionForEver",
       {.fault = Fault::at_completion, .code = cudaErrorLaunchFailure, .forever = true}},
      {"Sticky", {.fault = Fault::sticky, .code = cudaErrorIllegalAddress}},
      {"NeverReady", {.fault = Fault::not_ready}},
  };
  const std::pair<std::string, FakeCudaOptions> orders[]{
      {"Lazy", {.devices = 2}},
      {"LazyLastFirst", {.devices = 2, .last_first = true, .host_register_supported = false}},
      {"Eager", {.devices = 2, .schedule = FakeSchedule::eager}},
      {"Random", {.devices = 2, .schedule = FakeSchedule::random, .piece_nbytes = 50'000}},
  };
  std::vector<Kind> out;
  for (const auto& [order, fake] : orders) {
    for (const Kind& fault : faults) {
      out.push_back(fault);
      out.back().name += order;
      out.back().fake = fake;
    }
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(Kinds, LoadFaults, testing::ValuesIn(kinds()),
                         [](const auto& kind) { return kind.param.name; });

// Where no event can be recorded any more, slots come back once the streams say that they are
// empty; where those cannot be asked either, they are left to the devices.
TEST(LoadFault, OfEventsLeaveTheStreamsToAsk) {
  Kind kind{.name = "NoEvents", .injection = {.call = "EventRecord", .forever = true}};
  kind.fake.devices = 2;
  const Model model;
  for (kind.injection.nth = 1; kind.injection.nth < 100; ++kind.injection.nth) {
    SCOPED_TRACE(kind.injection.nth);
    const Outcome outcome = run(model, kind);
    if (!outcome.fired) break;
    EXPECT_TRUE(outcome.error);
    EXPECT_THAT(outcome.leaks, IsEmpty());
    kind.also = Injection{.call = "StreamQuery", .code = cudaErrorUnknown, .forever = true};
    expect_sound(kind, run(model, kind));
    kind.also.reset();
  }
  EXPECT_GT(kind.injection.nth, 4U);
}

// A pool with slots lost to a failed device: the rest serves later loads, and nothing hangs when
// none are left.
TEST(LoadFault, MayUseUpAPool) {
  const Model model;
  FakeCuda fake;
  const Gpus gpus = make_gpus(fake, 1);
  const auto pool = StagingPool::create(*gpus[0], {2 << 20, 512 << 10}).value();
  std::uint64_t abandoned = 0;
  for (int i = 0; abandoned < pool->nbytes(); ++i) {
    ASSERT_LT(i, 8);
    LoadScene scene(fake, gpus);
    scene.add(*model.checkpoint, {&model.tensors[1], {}, 0});
    const LoadOptions options{.pool = pool.get(), .device_timeout = kTimeout};
    HastyClock clock;
    EXPECT_OK(load_with_hooks(scene.plan, options, clock.hooks()));
    scene.expect_all_arrived();
    LoadScene spoilt(fake, gpus);
    spoilt.add(*model.checkpoint, {&model.tensors[1], {}, 0});
    fake.fail({.fault = Fault::not_ready, .call = "MemcpyAsync"});
    EXPECT_ERROR(load_with_hooks(spoilt.plan, options, clock.hooks()), device_timeout);
    fake.heal();
    EXPECT_GT(pool->abandoned_nbytes(), abandoned);
    abandoned = pool->abandoned_nbytes();
  }
  LoadScene scene(fake, gpus);
  scene.add(*model.checkpoint, {&model.tensors[1], {}, 0});
  std::atomic<bool> cancel = false;
  HastyClock clock;
  LoadHooks hooks = clock.hooks();
  test::poll(hooks, [&](std::uint64_t) { cancel = true; });  // rather than for ever
  EXPECT_ERROR(load_with_hooks(scene.plan, {.pool = pool.get(), .cancel = &cancel}, hooks),
               budget_too_small);
  EXPECT_THAT(fake.misuse(), IsEmpty());
}

}  // namespace
}  // namespace flatbed
