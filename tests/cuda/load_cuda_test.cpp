// load() to GPUs, through CudaDevice over the fake runtime: what arrives, in which order, and what
// the engine's threads and streams see of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "base/str_cat.hpp"
#include "support/fake_cuda_tsan.hpp"
#include "support/load_gpu.hpp"
#include "support/sanitizers.hpp"
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
using test::Streams;
using test::TempDir;
using test::write_model;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<ModelTensor> example() {
  std::vector<ModelTensor> tensors{
      {"scalar", Dtype::f32, {}},        {"empty", Dtype::f32, {0, 7}},
      {"odd", Dtype::u8, {3, 5, 7}},     {"wide", Dtype::bf16, {6, 90'000}},
      {"long", Dtype::f32, {512, 300}},  {"cube", Dtype::i64, {4, 60, 33}},
      {"tail", Dtype::u8, {kChunk + 1}},
  };
  fill(tensors);
  return tensors;
}

// Slots of which there are too few, so that they are used again.
LoadOptions tight(unsigned threads = 3) {
  return {.threads = threads, .staging_nbytes = 1 << 20, .slot_nbytes = 512 << 10};
}

// ---- what arrives -------------------------------------------------------------------------------

struct Way {
  std::string name;
  FakeCudaOptions fake;
  bool seal = true;
  Streams streams = Streams::own;
  friend void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }
};

class LoadToGpus : public testing::TestWithParam<Way> {};

TEST_P(LoadToGpus, TensorsAndSlicesArrive) {
  const Way& way = GetParam();
  const TempDir dir;
  const std::vector<ModelTensor> tensors = example();
  const Checkpoint checkpoint = write_model(dir / "a", tensors, way.seal);
  FakeCudaOptions options = way.fake;
  options.devices = 2;
  FakeCuda fake(options);
  {
    const Gpus gpus = make_gpus(fake, 2, way.streams);
    LoadScene scene(fake, gpus);
    int place = 0;  // each slice is for another
    const auto next = [&place] { return place++ % 3 - 1; };
    for (const ModelTensor& tensor : tensors) {
      scene.add(checkpoint, {&tensor, {}, next()});
      for (std::size_t dim = 0; dim < tensor.shape.size(); ++dim) {
        const std::uint64_t size = tensor.shape[dim];
        scene.add(checkpoint, {&tensor, {dim, size / 3, size / 3 * 2}, next()});
        scene.add(checkpoint, {&tensor, {dim, size - size / 4, size}, next(), 16});
      }
    }
    const CallersThread caller(fake);
    const Result<LoadReport> report = load(scene.plan, tight());
    caller.expect_untouched();
    ASSERT_OK(report);
    scene.expect_all_arrived();
    EXPECT_EQ(report->chunks_verified > 0, way.seal);
    EXPECT_LE(report->peak_staging_nbytes, (1U << 20) + 3 * (1U << 20));
    for (const LoadScene::Target& target : scene.targets())
      EXPECT_FALSE(fake.in_flight(target.memory, target.image.size()));
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

std::vector<Way> every_way() {
  using enum FakeSchedule;
  return {
      {.name = "Lazy", .fake = {.schedule = lazy}},
      {.name = "LazyLastFirst", .fake = {.schedule = lazy, .last_first = true}},
      {.name = "LazyPages", .fake = {.schedule = lazy, .protect_sources = true}},
      {.name = "Eager", .fake = {.schedule = eager}},
      {.name = "Random", .fake = {.schedule = random, .piece_nbytes = 10'000}},
      {.name = "RandomSlow", .fake = {.schedule = random, .seed = 7, .not_ready_queries = 3}},
      {.name = "Threads", .fake = {.schedule = threads}},
      {.name = "Unsealed", .fake = {.schedule = lazy}, .seal = false},
      {.name = "EngineStream", .fake = {.schedule = random, .seed = 3}, .streams = Streams::engine},
      {.name = "NoRegister", .fake = {.schedule = lazy, .host_register_supported = false}},
  };
}

INSTANTIATE_TEST_SUITE_P(Ways, LoadToGpus, testing::ValuesIn(every_way()),
                         [](const auto& way) { return way.param.name; });

// ---- groups -------------------------------------------------------------------------------------

// Columns of one rank, and of all eight, whose rows then lie between each other's.
TEST(LoadToGpu, BringsNarrowRowsInOneCopyForEachSlot) {
  const TempDir dir;
  std::vector<ModelTensor> tensors{{"o_proj", Dtype::u8, {512, 8 * 256}}};
  test::fill(tensors);
  const Checkpoint checkpoint = write_model(dir / "a", tensors);
  for (const std::uint64_t ranks : {1u, 8u}) {
    for (const std::uint64_t gap : {0u, 8u}) {
      FakeCuda fake({.devices = 2});
      {
        const Gpus gpus = make_gpus(fake, 2);
        LoadScene scene(fake, gpus);
        for (std::uint64_t rank = 0; rank < ranks; ++rank) {
          const Slice columns{.dim = 1, .begin = rank * 256, .end = (rank + 1) * 256};
          scene.add(checkpoint, {&tensors[0], columns, static_cast<int>(rank % 2), gap});
        }
        EXPECT_OK(load(scene.plan, tight()));
        scene.expect_all_arrived();
        // Where rows arrive apart, they are the device's.
        EXPECT_EQ(fake.calls("Memcpy2DAsync") == 0, gap == 0);
      }
      EXPECT_THAT(fake.ledger(), IsEmpty());
    }
  }
}

struct GroupsSeen {
  std::vector<std::uint32_t> order;
  std::map<std::uint32_t, std::size_t> events;
};

// Loads two groups to two GPUs; when one is ready, kernels of the engine read it, on streams that
// have waited for its event or not. No copy is seen complete before both groups are ready.
GroupsSeen load_groups(FakeCuda& fake, bool wait) {
  const TempDir dir;
  const std::vector<ModelTensor> tensors = example();
  const Checkpoint checkpoint = write_model(dir / "a", tensors);
  const Gpus gpus = make_gpus(fake, 2);
  LoadScene scene(fake, gpus);
  scene.add(checkpoint, {&tensors[3], {}, 0, 0, {1, 5}});
  scene.add(checkpoint, {&tensors[4], {}, 1, 0, {1, 5}});
  scene.add(checkpoint, {&tensors[5], {}, 0, 0, {2, -1}});
  scene.add(checkpoint, {&tensors[6], {}, -1, 0, {3, 9}});
  const std::vector<cudaStream_t> streams{fake.engine_stream(0), fake.engine_stream(1)};
  GroupsSeen seen;
  std::atomic<std::size_t> called = 0;
  // All slots are there, so that no thread sleeps before it has delivered its job.
  const auto pool = StagingPool::create(*gpus[0], {8 << 20, 512 << 10}).value();
  LoadOptions options{.threads = 2, .pool = pool.get()};
  options.ready = [&](const GroupReady& ready) -> Result<void> {
    seen.order.push_back(ready.group);
    seen.events[ready.group] = ready.events.size();
    for (const GroupReady::Event& event : ready.events) {
      const int gpu = event.device == gpus[0].get() ? 0 : 1;
      const cudaStream_t stream = streams[static_cast<std::size_t>(gpu)];
      if (wait) fake.engine_wait(stream, static_cast<cudaEvent_t>(event.event));
      scene.engine_reads(stream, gpu, ready.group);
    }
    ++called;
    return {};
  };
  HastyClock clock;
  LoadHooks hooks = clock.hooks();
  test::poll(hooks, [&](std::uint64_t) {
    while (called != 3) std::this_thread::yield();
  });
  const CallersThread caller(fake);
  EXPECT_OK(load_with_hooks(scene.plan, options, hooks));
  caller.expect_untouched();
  scene.expect_all_arrived();
  for (const cudaStream_t stream : streams) EXPECT_TRUE(fake.engine_finish(stream));
  return seen;
}

TEST(LoadGroupsToGpus, HaveArrivedForWhoWaitsForTheirEvent) {
  for (const FakeSchedule schedule : {FakeSchedule::lazy, FakeSchedule::random}) {
    FakeCuda fake({.devices = 2, .schedule = schedule, .not_ready_queries = 1});
    const GroupsSeen seen = load_groups(fake, true);
    EXPECT_EQ(seen.order, (std::vector<std::uint32_t>{2, 1, 3}));
    EXPECT_EQ(seen.events, (std::map<std::uint32_t, std::size_t>{{1, 2}, {2, 1}, {3, 0}}));
    EXPECT_THAT(fake.ledger(), IsEmpty());
  }
}

TEST(LoadGroupsToGpus, HaveNotArrivedForWhoDoesNot) {
#if FLATBED_THREAD_SANITIZER
  GTEST_SKIP() << "this is a race, and the thread sanitizer says so";
#endif
  FakeCuda fake({.devices = 2, .not_ready_queries = 1});
  static_cast<void>(load_groups(fake, false));
  ASSERT_FALSE(fake.misuse().empty());
  EXPECT_THAT(fake.misuse()[0], HasSubstr("has not been waited for"));
}

// ---- several loads ------------------------------------------------------------------------------

TEST(LoadsToGpus, ShareAPool) {
  const TempDir dir;
  const std::vector<ModelTensor> tensors = example();
  const Checkpoint checkpoint = write_model(dir / "a", tensors);
  for (const FakeSchedule schedule :
       {FakeSchedule::lazy, FakeSchedule::random, FakeSchedule::threads}) {
    FakeCuda fake({.devices = 2, .schedule = schedule});
    {
      const Gpus gpus = make_gpus(fake, 2);
      const auto pool = StagingPool::create(*gpus[0], {1 << 20, 512 << 10}).value();
      std::vector<std::thread> engines;
      for (int gpu = 0; gpu < 2; ++gpu) {
        engines.emplace_back([&, gpu] {
          LoadScene scene(fake, gpus);
          for (const ModelTensor& tensor : tensors) scene.add(checkpoint, {&tensor, {}, gpu});
          LoadOptions options = tight(2);
          options.pool = pool.get();
          const CallersThread caller(fake);
          EXPECT_OK(load(scene.plan, options));
          caller.expect_untouched();
          scene.expect_all_arrived();
        });
      }
      for (std::thread& engine : engines) engine.join();
      EXPECT_LE(pool->peak_nbytes(), 1U << 20);
      EXPECT_EQ(pool->abandoned_nbytes(), 0U);
    }
    EXPECT_THAT(fake.ledger(), IsEmpty());
  }
}

TEST(LoadsToGpus, OfAPoolOfTheHostAreRefused) {
  const TempDir dir;
  const std::vector<ModelTensor> tensors = example();
  const Checkpoint checkpoint = write_model(dir / "a", tensors);
  FakeCuda fake;
  const Gpus gpus = make_gpus(fake, 1);
  const auto host = host_device();
  const auto pool = StagingPool::create(*host, {1 << 20, 512 << 10}).value();
  LoadScene scene(fake, gpus);
  scene.add(checkpoint, {&tensors[2], {}, 0});
  LoadOptions options = tight();
  options.pool = pool.get();
  EXPECT_ERROR(load(scene.plan, options), invalid_argument);
}

// ---- what is refused ----------------------------------------------------------------------------

// Says that a load of 1000 bytes to `memory` is refused before anything is read or locked.
void expect_refused(FakeCuda& fake, const Gpus& gpus, void* memory, std::string_view reason) {
  SCOPED_TRACE(std::string(reason));
  const TempDir dir;
  std::vector<ModelTensor> tensors{{"w", Dtype::u8, {1000}}};
  fill(tensors);
  const Checkpoint checkpoint = write_model(dir / "a", tensors);
  LoadPlan plan;
  ASSERT_OK(plan.add(checkpoint, "w", {gpus[0].get(), memory, 1000, 0}));
  HastyClock clock;
  LoadHooks hooks = clock.hooks();
  std::atomic<int> reads = 0;
  hooks.read = [&](auto, auto, auto) -> Result<void> {
    ++reads;
    return {};
  };
  const CallersThread caller(fake);
  EXPECT_ERROR(plan.check(tight()), destination_invalid);
  const Result<LoadReport> report = load_with_hooks(plan, tight(), hooks);
  caller.expect_untouched();
  ASSERT_TRUE(test::has_error(report, ErrorCode::destination_invalid));
  EXPECT_THAT(report.error().message, HasSubstr("tensor 'w'"));
  EXPECT_THAT(report.error().message, HasSubstr(std::string(reason)));
  EXPECT_EQ(reads, 0);
  EXPECT_EQ(fake.calls("HostRegister") + fake.calls("HostAlloc"), 0U);
}

TEST(LoadToGpu, RefusesMemoryThatIsNotItsOwn) {
  FakeCuda fake({.devices = 2});
  {
    const Gpus gpus = make_gpus(fake, 2);
    expect_refused(fake, gpus, fake.engine_allocate(1, 1000), "memory of cuda:1");
    std::vector<std::byte> host(1000);
    expect_refused(fake, gpus, host.data(), "memory unknown to CUDA");
    void* const freed = fake.engine_allocate(0, 1000);
    fake.engine_free(freed);
    expect_refused(fake, gpus, freed, "the first byte in memory unknown to CUDA");
    void* const small = fake.engine_allocate(0, 999);
    expect_refused(fake, gpus, small, "the last byte in memory unknown to CUDA");
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// ---- what ends early ----------------------------------------------------------------------------

TEST(LoadToGpu, QueuesNothingThatIsNotVerified) {
  const TempDir dir;
  std::vector<ModelTensor> tensors{{"a", Dtype::u8, {kChunk}}, {"b", Dtype::u8, {kChunk}}};
  fill(tensors);
  const Checkpoint checkpoint = write_model(dir / "a", tensors);
  {
    const std::uint64_t at = checkpoint.find("b")->where.offset + 1000;
    std::fstream file(dir / "a", std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(~tensors[1].bytes[1000]));
  }
  for (const FakeSchedule schedule : {FakeSchedule::lazy, FakeSchedule::eager}) {
    FakeCuda fake({.schedule = schedule});
    {
      const Gpus gpus = make_gpus(fake, 1);
      LoadScene scene(fake, gpus);
      scene.add(checkpoint, {&tensors[0], {}, 0, 0, {1}});
      scene.add(checkpoint, {&tensors[1], {}, 0, 0, {2}});
      std::vector<std::uint32_t> groups;
      LoadOptions options = tight(2);
      options.ready = [&](const GroupReady& ready) -> Result<void> {
        groups.push_back(ready.group);
        return {};
      };
      const CallersThread caller(fake);
      EXPECT_ERROR(load(scene.plan, options), chunk_corrupt);
      caller.expect_untouched();
      const LoadScene::Target& corrupt = scene.targets()[1];
      EXPECT_EQ(fake.writes(corrupt.memory, corrupt.image.size()).once, 0U);
      EXPECT_THAT(groups, testing::Not(testing::Contains(2U)));
    }
    EXPECT_THAT(fake.ledger(), IsEmpty());
  }
}

// Reads a file as the loader would.
Result<void> read_from(const std::filesystem::path& path, std::uint64_t offset,
                       std::span<std::byte> out) {
  std::ifstream file(path, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  file.read(reinterpret_cast<char*>(out.data()), static_cast<std::streamsize>(out.size()));
  if (file) return {};
  return make_error(ErrorCode::io_error, path.native(), ": short read");
}

// The n-th read fails or returns wrong bytes while copies are under way.
TEST(LoadToGpu, DrainsWhenReadingFails) {
  const TempDir dir;
  const std::vector<ModelTensor> tensors = example();
  const Checkpoint checkpoint = write_model(dir / "a", tensors);
  for (const bool corrupt : {false, true}) {
    int nth = 1;
    for (bool fired = true; fired; ++nth) {
      SCOPED_TRACE(nth);
      FakeCuda fake({.schedule = FakeSchedule::random, .not_ready_queries = 2});
      {
        const Gpus gpus = make_gpus(fake, 1);
        LoadScene scene(fake, gpus);
        for (const ModelTensor& tensor : tensors) scene.add(checkpoint, {&tensor, {}, 0});
        HastyClock clock;
        LoadHooks hooks = clock.hooks();
        std::atomic<int> reads = 0;
        hooks.read = [&](std::uint32_t, std::uint64_t at, std::span<std::byte> out) {
          const bool fails = ++reads == nth;
          Result<void> read = read_from(dir / "a", at, out);
          if (fails && corrupt) out.back() ^= std::byte{1};
          if (fails && !corrupt) return Result<void>(make_error(ErrorCode::io_error, "the disk"));
          return read;
        };
        const CallersThread caller(fake);
        const Result<LoadReport> report = load_with_hooks(scene.plan, tight(2), hooks);
        caller.expect_untouched();
        fired = reads >= nth;
        if (fired) {
          EXPECT_TRUE(
              test::has_error(report, corrupt ? ErrorCode::chunk_corrupt : ErrorCode::io_error));
        } else {
          EXPECT_OK(report);
          scene.expect_all_arrived();
        }
      }
      EXPECT_THAT(fake.ledger(), IsEmpty());
    }
    EXPECT_GT(nth, 4);
  }
}

// Tensors that are gathered, or inflated, on their way to a slot.
TEST(LoadToGpu, TakesTensorsThatDoNotLiePlainlyInTheirFile) {
  FakeCuda fake({.schedule = FakeSchedule::random});
  {
    const Gpus gpus = make_gpus(fake, 1);
    for (const char* const name : {"complex_views.pth", "deflated.pth", "dtypes.pth"}) {
      SCOPED_TRACE(name);
      const Checkpoint checkpoint =
          Checkpoint::open(std::filesystem::path(FLATBED_FIXTURES_DIR) / "torch2" / name).value();
      LoadPlan plan;
      std::vector<std::pair<std::byte*, std::vector<std::byte>>> wanted;
      for (const TensorInfo& tensor : checkpoint.tensors()) {
        std::vector<std::byte> bytes(tensor.nbytes);
        ASSERT_OK(checkpoint.read(tensor, 0, bytes));
        auto* const memory = static_cast<std::byte*>(fake.engine_allocate(0, tensor.nbytes + 1));
        ASSERT_OK(plan.add(checkpoint, tensor.name, {gpus[0].get(), memory, tensor.nbytes, 0}));
        wanted.emplace_back(memory, std::move(bytes));
      }
      ASSERT_OK(load(plan, tight()));
      for (const auto& [memory, bytes] : wanted)
        EXPECT_EQ(fake.read_device(memory, bytes.size()), bytes);
    }
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(LoadToGpu, StopsAndDrainsWhenCancelled) {
  const TempDir dir;
  const std::vector<ModelTensor> tensors = example();
  const Checkpoint checkpoint = write_model(dir / "a", tensors);
  FakeCuda fake({.schedule = FakeSchedule::random, .not_ready_queries = 2});
  {
    const Gpus gpus = make_gpus(fake, 1);
    LoadScene scene(fake, gpus);
    for (std::uint32_t i = 0; i < tensors.size(); ++i)
      scene.add(checkpoint, {&tensors[i], {}, 0, 0, {i}});
    std::atomic<bool> cancel = false;
    int groups = 0;
    const auto pool = StagingPool::create(*gpus[0], {1 << 20, 512 << 10}).value();
    LoadOptions options{.threads = 2, .pool = pool.get(), .cancel = &cancel};
    options.ready = [&](const GroupReady&) -> Result<void> {
      ++groups;
      cancel = true;
      return {};
    };
    HastyClock clock;
    LoadHooks hooks = clock.hooks();
    // The last of the readers waits until the load was cancelled.
    test::poll(hooks, [&](std::uint64_t) {
      while (!cancel) std::this_thread::yield();
    });
    const CallersThread caller(fake);
    EXPECT_ERROR(load_with_hooks(scene.plan, options, hooks), cancelled);
    caller.expect_untouched();
    EXPECT_EQ(groups, 1);
    for (const LoadScene::Target& target : scene.targets())
      EXPECT_TRUE(scene.border_is_whole(target));
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

}  // namespace
}  // namespace flatbed
