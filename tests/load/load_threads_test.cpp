// load() where threads are not to be had: none, or fewer than were wanted. Stands before the C
// library's pthread_create(), which has no other way to fail.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/str_cat.hpp"
#include "flatbed/load.hpp"
#include "io/numa.hpp"
#include "load/load_hooks.hpp"
#include "load/readers.hpp"
#include "load/staging_pool.hpp"
#include "support/expect_error.hpp"
#include "support/fake_device.hpp"
#include "support/fault_io.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace {
std::atomic<int> g_threads_left = -1;     // -1: all that are wanted
std::atomic<bool>* g_wait_for = nullptr;  // before a thread is refused
std::atomic<bool> g_refuse_once = false;
}  // namespace

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*work)(void*), void* argument) noexcept {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto create = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  if (g_threads_left == 0) {
    while (g_wait_for != nullptr && !*g_wait_for) std::this_thread::yield();
    if (g_refuse_once) g_threads_left = -1;
    return EAGAIN;
  }
  if (g_threads_left > 0) --g_threads_left;
  return create(thread, attributes, work, argument);
}

namespace flatbed {
namespace {

using test::FakeDevice;
using test::fill;
using test::ModelTensor;
using test::Target;
using test::TempDir;
using test::write_model;

constexpr std::uint64_t kNbytes = 8 << 20;
constexpr StagingOptions kTwoSlots{.staging_nbytes = 1 << 20, .slot_nbytes = 512 << 10};

class FewThreads {
 public:
  explicit FewThreads(int count, std::atomic<bool>* wait_for = nullptr, bool once = false) {
    g_wait_for = wait_for;
    g_refuse_once = once;
    g_threads_left = count;
  }
  FewThreads(const FewThreads&) = delete;
  FewThreads& operator=(const FewThreads&) = delete;
  ~FewThreads() { g_threads_left = -1; }
};

// A tensor, on its way to the host or to a device.
struct Example {
  TempDir dir;
  std::vector<ModelTensor> tensors{{"t", Dtype::u8, {kNbytes}}};
  Checkpoint checkpoint = write();
  Target target{kNbytes};
  FakeDevice device;
  std::unique_ptr<StagingPool> pool = StagingPool::create(device, kTwoSlots).value();
  LoadPlan plan;
  int ready = 0;

  explicit Example(bool on_device) {
    EXPECT_OK(plan.add(checkpoint, "t", target.destination(on_device ? &device : nullptr)));
  }
  Checkpoint write() {
    fill(tensors);
    return write_model(dir / "a", tensors);
  }
  LoadOptions options(unsigned threads) {
    return {.io = IoMode::buffered,
            .threads = threads,
            .pool = pool.get(),
            .ready = [this](const GroupReady&) -> Result<void> {
              ++ready;
              return {};
            }};
  }
  [[nodiscard]] std::size_t free_slots() const {
    const StagingSlots slots(*pool);
    std::vector<std::uint32_t> taken;
    while (const std::optional<std::uint32_t> slot = slots.try_take()) taken.push_back(*slot);
    for (const std::uint32_t slot : taken) slots.give_back(slot);
    return taken.size();
  }
};

// Hooks of the real world that say when a reading thread is about to end.
LoadHooks hooks(std::atomic<bool>& left) {
  LoadHooks out;
  out.now_ns = [] {
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                      std::chrono::nanoseconds(1));
  };
  out.leave = [&left] { left = true; };
  return out;
}

class LoadThreads : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(To, LoadThreads, testing::Bool(),
                         [](const auto& to) { return to.param ? "Device" : "Host"; });

TEST_P(LoadThreads, NoneIsAnError) {
  Example a(GetParam());
  const FewThreads none(0);
  EXPECT_ERROR(load(a.plan, a.options(4)), resource_exhausted);
  EXPECT_EQ(a.ready, 0);
  EXPECT_EQ(a.free_slots(), 2u);
}

TEST_P(LoadThreads, FewerThanWereWantedDoAll) {
  Example a(GetParam());
  for (unsigned count = 1; count <= 4; ++count) {
    std::fill_n(a.target.data(), kNbytes, std::byte{0});
    const int check = GetParam() ? 1 : 0;  // a thread asks the devices for their memory
    const FewThreads few(static_cast<int>(count) + check);
    const Result<LoadReport> report = load(a.plan, a.options(4));
    ASSERT_OK(report);
    EXPECT_EQ(report->threads, count);
    EXPECT_TRUE(a.target.bytes() == a.tensors[0].bytes);
    EXPECT_EQ(a.ready, static_cast<int>(count));
  }
}

// The one reader has ended before it is known that there will be no other.
TEST_P(LoadThreads, TheLastOneMayEndBeforeTheOthersAreRefused) {
  Example a(GetParam());
  std::atomic<bool> left = false;
  const FewThreads few(GetParam() ? 2 : 1, &left);
  const Result<LoadReport> report = load_with_hooks(a.plan, a.options(4), hooks(left));
  ASSERT_OK(report);
  EXPECT_EQ(report->threads, 1u);
  EXPECT_TRUE(a.target.bytes() == a.tensors[0].bytes);
  EXPECT_EQ(a.ready, 1);
}

// What it left in doubt is settled by a thread of its own: the caller's must not touch the device.
TEST(LoadThreadsInDoubt, AreSettledOnAnotherThread) {
  Example a(true);
  a.device.faults.copy = 2;
  a.device.faults.half_copy = true;
  std::atomic<bool> left = false;
  std::atomic<bool> caller_waited = false;
  LoadHooks all = hooks(left);
  all.wait = [&caller_waited, caller = std::this_thread::get_id()](Device& device, Ticket ticket,
                                                                   std::chrono::nanoseconds most) {
    if (std::this_thread::get_id() == caller) caller_waited = true;
    return device.wait(ticket, most);
  };
  const FewThreads few(2, &left, true);
  const Result<LoadReport> report = load_with_hooks(a.plan, a.options(4), all);
  EXPECT_ERROR(report, device_error);
  EXPECT_EQ(report.error().message.find("may still read"), std::string::npos);
  EXPECT_FALSE(caller_waited);
  EXPECT_EQ(a.device.pending(), 0u);
  EXPECT_EQ(a.free_slots(), 2u);
}

TEST(LoadThreadsInDoubt, AreLeftToTheDeviceWithoutAThread) {
  Example a(true);
  a.device.faults.copy = 2;
  a.device.faults.half_copy = true;
  std::atomic<bool> left = false;
  const FewThreads few(2, &left);
  const Result<LoadReport> report = load_with_hooks(a.plan, a.options(4), hooks(left));
  EXPECT_ERROR(report, device_error);
  EXPECT_NE(report.error().message.find("may still read"), std::string::npos);
  EXPECT_EQ(a.device.pending(), 1u);
  EXPECT_LT(a.free_slots(), 2u);
}

TEST(LoadThreadsInDoubt, AreLeftToTheDeviceWithAllTheirMemory) {
  Example a(true);
  a.device.faults = {.copy = 2, .done = 1, .for_ever = true, .half_copy = true};
  std::atomic<bool> left = false;
  const FewThreads few(2, &left);
  EXPECT_ERROR(load_with_hooks(a.plan, a.options(4), hooks(left)), device_error);
  EXPECT_EQ(a.pool->abandoned_nbytes(), kTwoSlots.staging_nbytes);
}

// The machine's node is a made-up one: the last of the processors that this thread may use.
TEST(LoadThreadsOfANode, StayOnItsProcessors) {
  const Processors mine = processors_of_thread();
  ASSERT_FALSE(mine.empty());
  const TempDir sysfs;
  const std::filesystem::path folder = sysfs / "devices/system/node/node3";
  std::filesystem::create_directories(folder);
  test::write_file(folder / "cpulist", std::to_string(mine.back()) + "\n");
  Example a(true);
  const auto seen = [&](int node, unsigned threads) {
    a.device.node = node;
    std::mutex mutex;
    std::set<Processors> out;
    std::atomic<bool> left = false;
    LoadHooks all = hooks(left);
    all.sysfs = sysfs.path();
    all.enter = [&] {
      const std::lock_guard lock(mutex);
      out.insert(processors_of_thread());
    };
    EXPECT_OK(load_with_hooks(a.plan, a.options(threads), all));
    return out;
  };
  EXPECT_EQ(seen(3, 1), std::set<Processors>{{mine.back()}});
  EXPECT_EQ(seen(3, 2), std::set<Processors>{mine});  // more than the node has
  EXPECT_EQ(seen(4, 1), std::set<Processors>{mine});
  EXPECT_EQ(seen(-1, 1), std::set<Processors>{mine});
  EXPECT_EQ(processors_of_thread(), mine);
}

TEST(LoadThreadsByDefault, FollowCoresLinksAndDisks) {
  constexpr std::uint64_t kPcie5 = 55'000'000'000;
  EXPECT_EQ(usual_readers({.cores = 1}), 2u);
  EXPECT_EQ(usual_readers({.cores = 5}), 5u);
  EXPECT_EQ(usual_readers({.cores = 64}), 8u);
  EXPECT_EQ(usual_readers({.cores = 64, .link_bytes_per_second = 25'000'000'000}), 8u);
  EXPECT_EQ(usual_readers({.cores = 64, .link_bytes_per_second = kPcie5}), 14u);
  EXPECT_EQ(usual_readers({.cores = 12, .link_bytes_per_second = kPcie5}), 12u);
  EXPECT_EQ(usual_readers({.cores = 64, .link_bytes_per_second = ~std::uint64_t{0}}), 32u);
  EXPECT_EQ(usual_readers({.cores = 2, .direct = true}), 8u);
  EXPECT_EQ(usual_readers({.cores = 64, .link_bytes_per_second = kPcie5, .direct = true}), 14u);
}

TEST(LoadThreadsByDefault, AddUpTheLinksOfDevicesOnOneNode) {
  FakeDevice devices[2];
  LoadPlanState plan;
  EXPECT_EQ(link_bytes_per_second(plan), 0u);
  EXPECT_EQ(numa_node(plan), -1);
  for (FakeDevice& device : devices) {
    device.link = 30;
    device.node = 1;
    plan.devices.push_back(&device);
  }
  EXPECT_EQ(link_bytes_per_second(plan), 60u);
  EXPECT_EQ(numa_node(plan), 1);
  devices[1].link = ~std::uint64_t{0};
  devices[1].node = 0;
  EXPECT_EQ(link_bytes_per_second(plan), ~std::uint64_t{0});
  EXPECT_EQ(numa_node(plan), -1);
  devices[1].link = 0;
  EXPECT_EQ(link_bytes_per_second(plan), 0u);
}

TEST(LoadThreadsByDefault, AreMoreThanCoresWhereTheDiskIsWaitedFor) {
  Example a(true);
  LoadOptions options = a.options(0);
  const unsigned cores = std::clamp(std::thread::hardware_concurrency(), 2U, 8U);
  const Result<LoadReport> buffered = load(a.plan, options);
  ASSERT_OK(buffered);
  EXPECT_EQ(buffered->threads, cores);
  options.io = IoMode::direct;
  const Result<LoadReport> direct = load(a.plan, options);
  ASSERT_OK(direct);
  EXPECT_EQ(direct->threads, direct->queued ? cores : 8u);
  const test::FaultIo no_io_uring;
  const Result<LoadReport> waiting = load(a.plan, options);
  ASSERT_OK(waiting);
  EXPECT_FALSE(waiting->queued);
  EXPECT_EQ(waiting->threads, waiting->files_direct == 0 ? cores : 8u);
}

// The machine's own is not asked: this node has one processor, whatever the machine has, and the
// least number of threads is two.
TEST(LoadThreadsByDefault, CountTheProcessorsOfTheNodeThatSysfsLists) {
  const Processors mine = processors_of_thread();
  if (mine.size() < 3) GTEST_SKIP() << "too few processors to see a difference";
  const TempDir sysfs;
  const std::filesystem::path node = sysfs / "devices/system/node/node3";
  std::filesystem::create_directories(node);
  test::write_file(node / "cpulist", str_cat(mine.front(), "\n"));
  const TempDir dir;
  std::vector<ModelTensor> tensors{{"w", Dtype::u8, {20 << 20}}};
  fill(tensors);
  const Checkpoint checkpoint = write_model(dir / "a.safetensors", tensors);
  FakeDevice device;
  device.node = 3;
  Target target(20 << 20);
  LoadPlan plan;
  ASSERT_OK(plan.add(checkpoint, "w", target.destination(&device)));
  LoadHooks hooks;
  hooks.now_ns = [] { return std::uint64_t{0}; };
  hooks.sysfs = sysfs.path();
  const Result<LoadReport> report = load_with_hooks(plan, {.io = IoMode::buffered}, hooks);
  ASSERT_OK(report);
  EXPECT_EQ(report->threads, 2u);
}

}  // namespace
}  // namespace flatbed
