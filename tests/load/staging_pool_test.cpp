// StagingPool and its slots: sizes, who has what, and what becomes of abandoned memory.
#include "load/staging_pool.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "flatbed/load.hpp"
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

constexpr StagingOptions kTwoSlots{.staging_nbytes = 1 << 20, .slot_nbytes = 512 << 10};

TEST(StagingPool, IsCutIntoWholeSlots) {
  FakeDevice device;
  {
    const auto pool =
        StagingPool::create(device, {.staging_nbytes = (2 << 20) - 1, .slot_nbytes = 512 << 10});
    ASSERT_OK(pool);
    EXPECT_EQ((*pool)->nbytes(), 3u << 19);
    EXPECT_EQ((*pool)->slot_nbytes(), 1u << 19);
    EXPECT_EQ(&(*pool)->device(), &device);
    EXPECT_EQ(device.staged_nbytes(), 3u << 19);
    const StagingSlots slots(**pool);
    std::set<std::byte*> places;
    for (int i = 0; i < 3; ++i) places.insert(slots.data(slots.try_take().value()));
    EXPECT_EQ(places.size(), 3u);
    for (std::byte* place : places)
      EXPECT_EQ(static_cast<std::size_t>(place - *places.begin()) % (1 << 19), 0u);
    EXPECT_FALSE(slots.try_take());
  }
  EXPECT_EQ(device.staged_nbytes(), 0u);
}

TEST(StagingPool, RemembersItsPeak) {
  FakeDevice device;
  const auto pool =
      StagingPool::create(device, {.staging_nbytes = 2 << 20, .slot_nbytes = 512 << 10});
  ASSERT_OK(pool);
  const StagingSlots slots(**pool);
  EXPECT_EQ((*pool)->peak_nbytes(), 0u);
  const std::uint32_t one = slots.try_take().value();
  const std::uint32_t two = slots.try_take().value();
  slots.give_back(one);
  slots.give_back(two);
  EXPECT_EQ(slots.try_take().value(), two);  // the last given back is the warmest
  EXPECT_EQ((*pool)->peak_nbytes(), 1u << 20);
}

TEST(StagingPool, LeavesAbandonedMemoryWhereItIs) {
  FakeDevice device;
  {
    const auto pool = StagingPool::create(device, kTwoSlots);
    ASSERT_OK(pool);
    const StagingSlots slots(**pool);
    const std::uint32_t slot = slots.try_take().value();
    slots.abandon(slot);
    EXPECT_EQ((*pool)->abandoned_nbytes(), 512u << 10);
    EXPECT_FALSE(slots.all_abandoned());
    EXPECT_NE(slots.try_take().value(), slot);
    EXPECT_FALSE(slots.try_take());
  }
  EXPECT_EQ(device.staged_nbytes(), 1u << 20);
}

TEST(StagingPool, IsMadeBlockByBlock) {
  FakeDevice device;
  {
    const auto pool = StagingSlots::unstaged_pool(
        device, {.staging_nbytes = (4 << 20) + (512 << 10), .slot_nbytes = 512 << 10});
    ASSERT_OK(pool);
    EXPECT_EQ((*pool)->nbytes(), 9u << 19);
    const StagingSlots slots(**pool);
    std::set<std::byte*> places;
    for (const std::size_t blocks : {4u, 4u, 1u}) {  // slots that a block of 2 MiB has
      EXPECT_FALSE(slots.try_take());
      EXPECT_TRUE(slots.stage_more().value());
      for (std::size_t i = 0; i < blocks; ++i)
        EXPECT_TRUE(places.insert(slots.data(slots.try_take().value())).second);
    }
    EXPECT_FALSE(slots.stage_more().value());
    EXPECT_FALSE(slots.try_take());
    EXPECT_EQ(device.staged_nbytes(), 9u << 19);
  }
  EXPECT_EQ(device.staged_nbytes(), 0u);
}

TEST(StagingPool, IsMadeNoFurtherAfterAnError) {
  FakeDevice device;
  device.faults.stage = 2;
  {
    const auto pool =
        StagingSlots::unstaged_pool(device, {.staging_nbytes = 6 << 20, .slot_nbytes = 2 << 20});
    const StagingSlots slots(**pool);
    EXPECT_TRUE(slots.stage_more().value());
    EXPECT_ERROR(slots.stage_more(), resource_exhausted);
    EXPECT_FALSE(slots.stage_more().value());
    EXPECT_EQ(device.staged_nbytes(), 2u << 20);
  }
  EXPECT_EQ(device.staged_nbytes(), 0u);
  device.faults.stage = 4;
  EXPECT_ERROR(StagingPool::create(device, {.staging_nbytes = 6 << 20, .slot_nbytes = 2 << 20}),
               resource_exhausted);
  EXPECT_EQ(device.staged_nbytes(), 0u);
}

TEST(StagingPool, WakesWhoWaitsForASlot) {
  FakeDevice device;
  const auto pool = StagingPool::create(device, kTwoSlots);
  const StagingSlots slots(**pool);
  slots.wait(std::chrono::hours(1));  // one is free
  const std::uint32_t one = slots.try_take().value();
  static_cast<void>(slots.try_take());
  slots.wait(std::chrono::milliseconds(1));
  std::thread other([&] { slots.give_back(one); });
  slots.wait(std::chrono::hours(1));
  EXPECT_EQ(slots.try_take(), one);
  other.join();
}

TEST(StagingPool, RefusesSizes) {
  FakeDevice device;
  const auto create = [&](std::uint64_t ring, std::uint64_t slot) {
    return StagingPool::create(device, {.staging_nbytes = ring, .slot_nbytes = slot});
  };
  EXPECT_OK(create(1 << 20, 512 << 10));
  EXPECT_ERROR(create((1 << 20) - 1, 512 << 10), budget_too_small);
  EXPECT_ERROR(create(1 << 20, (512 << 10) - 4096), invalid_argument);
  EXPECT_ERROR(create(4 << 20, (512 << 10) + 1), invalid_argument);
  EXPECT_ERROR(create(1 << 20, 0), invalid_argument);
  EXPECT_ERROR(create(~std::uint64_t{0}, 512 << 10), invalid_argument);
  device.faults = {.stage = 2};
  EXPECT_ERROR(create(1 << 20, 512 << 10), resource_exhausted);
  EXPECT_EQ(device.staged_nbytes(), 0u);
}

TEST(StagingPool, FitsSlotsToTheRingAndTheThreads) {
  EXPECT_EQ(fitting_slot_nbytes(64 << 20, 2), 8u << 20);
  EXPECT_EQ(fitting_slot_nbytes(64 << 20, 8), 4u << 20);
  EXPECT_EQ(fitting_slot_nbytes(64 << 20, 0), 8u << 20);
  EXPECT_EQ(fitting_slot_nbytes(20 << 20, 2), 4u << 20);  // whole huge pages
  EXPECT_EQ(fitting_slot_nbytes(0, 16), 512u << 10);
  EXPECT_EQ(fitting_slot_nbytes(~std::uint64_t{0}, 1), 8u << 20);
}

// ---- loads with a pool of the caller's ----------------------------------------------------------

struct Model {
  TempDir dir;
  std::vector<ModelTensor> tensors{{"t", Dtype::u8, {6'000'000}}};
  Checkpoint checkpoint = write();
  Checkpoint write() {
    fill(tensors);
    return write_model(dir / "a", tensors);
  }
};

TEST(SharedPool, ServesTwoLoadsAtTheSameTime) {
  const Model model;
  FakeDevice devices[2];
  const auto pool = StagingPool::create(devices[0], kTwoSlots);
  ASSERT_OK(pool);
  std::vector<Target> targets(2, Target(6'000'000));
  const auto run = [&](std::size_t number) {
    LoadPlan plan;
    ASSERT_OK(plan.add(model.checkpoint, "t", targets[number].destination(&devices[number])));
    devices[number].not_ready = static_cast<int>(number) * 3;
    for (int round = 0; round < 6; ++round) {
      std::fill_n(targets[number].data(), 6'000'000, std::byte{0});
      const Result<LoadReport> report = load(plan, {.threads = 3, .pool = pool->get()});
      ASSERT_OK(report);
      EXPECT_LE(report->peak_staging_nbytes, 1u << 20);
      EXPECT_TRUE(targets[number].bytes() == model.tensors[0].bytes);
    }
  };
  std::thread other(run, 1);
  run(0);
  other.join();
  EXPECT_LE((*pool)->peak_nbytes(), (*pool)->nbytes());
  EXPECT_EQ((*pool)->abandoned_nbytes(), 0u);
  const StagingSlots slots(**pool);  // all are back
  EXPECT_TRUE(slots.try_take() && slots.try_take());
}

TEST(SharedPool, ServesALoadAfterOneThatFailed) {
  const Model model;
  FakeDevice device;
  const auto pool = StagingPool::create(device, kTwoSlots);
  ASSERT_OK(pool);
  Target target(6'000'000);
  LoadPlan plan;
  ASSERT_OK(plan.add(model.checkpoint, "t", target.destination(&device)));
  device.faults.copy = 3;
  EXPECT_ERROR(load(plan, {.pool = pool->get()}), device_error);
  EXPECT_EQ((*pool)->abandoned_nbytes(), 0u);
  EXPECT_OK(load(plan, {.pool = pool->get()}));
  EXPECT_TRUE(target.bytes() == model.tensors[0].bytes);
}

// The first block is in use while the second one is made.
TEST(OwnPool, IsUsedBeforeAllOfItIsMade) {
  const Model model;
  FakeDevice device;
  device.before_stage = [&device](int call) {
    while (call > 1 && device.copies() == 0) std::this_thread::yield();
  };
  Target target(6'000'000);
  LoadPlan plan;
  ASSERT_OK(plan.add(model.checkpoint, "t", target.destination(&device)));
  const Result<LoadReport> report =
      load(plan, {.threads = 3, .staging_nbytes = 4 << 20, .slot_nbytes = 2 << 20});
  ASSERT_OK(report);
  EXPECT_TRUE(target.bytes() == model.tensors[0].bytes);
  EXPECT_EQ(device.staged_nbytes(), 0u);
}

TEST(OwnPool, EndsTheLoadIfItCannotBeMade) {
  const Model model;
  FakeDevice device;
  device.faults.stage = 2;
  Target target(6'000'000);
  LoadPlan plan;
  ASSERT_OK(plan.add(model.checkpoint, "t", target.destination(&device)));
  const LoadOptions options{.threads = 1, .staging_nbytes = 4 << 20, .slot_nbytes = 2 << 20};
  EXPECT_ERROR(load(plan, options), resource_exhausted);
  EXPECT_EQ(device.staged_nbytes(), 0u);
}

TEST(SharedPool, IsAllThatALoadOfAnyNumberOfThreadsUses) {
  const Model model;
  FakeDevice device;
  Target target(6'000'000);
  LoadPlan plan;
  ASSERT_OK(plan.add(model.checkpoint, "t", target.destination(&device)));
  for (unsigned threads = 1; threads <= 16; ++threads) {
    std::fill_n(target.data(), 6'000'000, std::byte{0});
    const Result<LoadReport> report =
        load(plan, {.threads = threads, .staging_nbytes = 1 << 20, .slot_nbytes = 512 << 10});
    ASSERT_OK(report);
    EXPECT_TRUE(target.bytes() == model.tensors[0].bytes) << threads;
    EXPECT_LE(report->peak_staging_nbytes, 1u << 20);
    EXPECT_EQ(report->threads, std::min(threads, 12U));  // as many as there are jobs
  }
}

}  // namespace
}  // namespace flatbed
