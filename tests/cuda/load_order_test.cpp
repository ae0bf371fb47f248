// load() and the engine's own work on the GPU: copies come after what the engine has queued, its
// kernels after the groups, and no graph is spoilt that it captures meanwhile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <optional>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "load/load_hooks.hpp"
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
using test::LoadScene;
using test::ModelTensor;
using test::TempDir;
using test::write_model;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

enum class Kind { created, legacy, per_thread };
constexpr Kind kKinds[] = {Kind::created, Kind::legacy, Kind::per_thread};

void PrintTo(Kind kind, std::ostream* out) { *out << static_cast<int>(kind); }

EngineStream stream_of(FakeCuda& fake, Kind kind) {
  if (kind == Kind::created) return EngineStream::created(fake.engine_stream(0));
  return kind == Kind::legacy ? EngineStream::legacy() : EngineStream::per_thread();
}
cudaStream_t handle(EngineStream stream) { return static_cast<cudaStream_t>(stream.handle()); }

Gpus one_gpu(const CudaDeviceOptions& options) {
  Gpus gpus;
  auto gpu = cuda::make_cuda_device(test::counted_cuda_api(), 0, options);
  EXPECT_OK(gpu);
  if (gpu) gpus.push_back(*std::move(gpu));
  return gpus;
}

std::vector<ModelTensor> two_tensors() {
  std::vector<ModelTensor> tensors{{"first", Dtype::f32, {300, 700}}, {"second", Dtype::u8, {99}}};
  fill(tensors);
  return tensors;
}

// A model, its destinations on GPU 0, and a load of it in two groups.
class Load : public testing::TestWithParam<Kind> {
 protected:
  // Kernels that write the destinations, as those do that have used the memory before.
  void engine_uses(FakeCuda& fake, const LoadScene& scene, cudaStream_t stream) const {
    for (const LoadScene::Target& target : scene.targets())
      fake.engine_write(stream, target.memory, target.image.size(), FakeCuda::kCanary);
  }
  void fill_scene(LoadScene& scene) const {
    scene.add(checkpoint_, {&tensors_[0], {}, 0, 0, {1, 0}});
    scene.add(checkpoint_, {&tensors_[1], {}, 0, 0, {2, 1}});
  }

  LoadOptions options_{.threads = 2, .staging_nbytes = 2 << 20, .slot_nbytes = 512 << 10};
  TempDir dir_;
  std::vector<ModelTensor> tensors_ = two_tensors();
  Checkpoint checkpoint_ = write_model(dir_ / "a", tensors_);
};

// ---- order --------------------------------------------------------------------------------------

class LoadAfterTheEngine : public Load {};
INSTANTIATE_TEST_SUITE_P(Streams, LoadAfterTheEngine, testing::ValuesIn(kKinds));

TEST_P(LoadAfterTheEngine, WaitsForWhatItHasQueued) {
  for (const FakeSchedule schedule :
       {FakeSchedule::lazy, FakeSchedule::random, FakeSchedule::threads}) {
    FakeCuda fake({.schedule = schedule});
    const EngineStream engine = stream_of(fake, GetParam());
    {
      const Gpus gpus = one_gpu({.order_after = engine});
      LoadScene scene(fake, gpus);
      fill_scene(scene);
      for (int time = 0; time < 2; ++time) {
        engine_uses(fake, scene, handle(engine));
        EXPECT_OK(load(scene.plan, options_));
        EXPECT_TRUE(fake.engine_finish(handle(engine)));
        for (const LoadScene::Target& target : scene.targets()) EXPECT_TRUE(scene.arrived(target));
      }
    }
    EXPECT_THAT(fake.ledger(), IsEmpty());
  }
}

TEST_F(LoadAfterTheEngine, DoesNotWaitUnlessItIsTold) {
#if FLATBED_THREAD_SANITIZER
  GTEST_SKIP() << "this is a race, and the thread sanitizer says so";
#endif
  FakeCuda fake;
  const Gpus gpus = one_gpu({});
  LoadScene scene(fake, gpus);
  fill_scene(scene);
  engine_uses(fake, scene, fake.engine_stream(0));
  EXPECT_ERROR(load(scene.plan, options_), device_error);
  EXPECT_THAT(fake.misuse(), Contains(HasSubstr("still written in the engine's stream")));
}

// The stream of the copies is one that has its own order.
TEST_F(LoadAfterTheEngine, QueuesItsCopiesInAStreamOfTheEngines) {
  FakeCuda fake;
  const cudaStream_t engine = fake.engine_stream(0);
  {
    const Gpus gpus = one_gpu({.stream = EngineStream::created(engine)});
    LoadScene scene(fake, gpus);
    fill_scene(scene);
    engine_uses(fake, scene, engine);
    options_.ready = [&](const GroupReady& ready) -> Result<void> {
      scene.engine_reads(engine, 0, ready.group);
      return {};
    };
    EXPECT_OK(load(scene.plan, options_));
    scene.expect_all_arrived();
  }
  EXPECT_TRUE(fake.engine_finish(engine));
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// Threads that load at once, each after its own default stream.
TEST_F(LoadAfterTheEngine, TakesTheDefaultStreamOfEachThread) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    FakeCuda fake({.schedule = FakeSchedule::random, .seed = seed});
    {
      const Gpus gpus = one_gpu({.order_after = EngineStream::per_thread()});
      std::vector<std::thread> engines;
      for (int i = 0; i < 3; ++i) {
        engines.emplace_back([&] {
          LoadScene scene(fake, gpus);
          fill_scene(scene);
          engine_uses(fake, scene, cudaStreamPerThread);
          EXPECT_OK(load(scene.plan, options_));
          EXPECT_TRUE(fake.engine_finish(cudaStreamPerThread));
          scene.expect_all_arrived();
        });
      }
      for (std::thread& engine : engines) engine.join();
    }
    EXPECT_THAT(fake.ledger(), IsEmpty());
  }
}

class LoadBeforeTheEngine : public Load {};
INSTANTIATE_TEST_SUITE_P(Streams, LoadBeforeTheEngine, testing::ValuesIn(kKinds));

// Kernels that the callback queues read what arrived. No copy is seen complete before both groups
// are ready: nothing but the stream's own waiting can have ordered them.
TEST_P(LoadBeforeTheEngine, LetsItsStreamWaitForEachGroup) {
  for (const FakeSchedule schedule : {FakeSchedule::lazy, FakeSchedule::random}) {
    FakeCuda fake({.schedule = schedule, .not_ready_queries = 1});
    const EngineStream engine = stream_of(fake, GetParam());
    {
      const Gpus gpus = one_gpu({.order_before = engine});
      LoadScene scene(fake, gpus);
      fill_scene(scene);
      std::atomic<int> called = 0;
      options_.ready = [&](const GroupReady& ready) -> Result<void> {
        scene.engine_reads(handle(engine), 0, ready.group);
        ++called;
        return {};
      };
      HastyClock clock;
      LoadHooks hooks = clock.hooks();
      test::poll(hooks, [&](std::uint64_t) {
        while (called != 2) std::this_thread::yield();
      });
      // All slots are there, so that no thread sleeps before it has delivered its job.
      const auto pool = StagingPool::create(*gpus[0], {8 << 20, 512 << 10}).value();
      options_.pool = pool.get();
      EXPECT_OK(load_with_hooks(scene.plan, options_, hooks));
      scene.expect_all_arrived();
      EXPECT_TRUE(fake.engine_finish(handle(engine)));
    }
    EXPECT_THAT(fake.ledger(), IsEmpty());
  }
}

// ---- the calling thread -------------------------------------------------------------------------

TEST_F(Load, CallsNothingOnTheCallersThreadForStreamsThatAreNotItsOwn) {
  FakeCuda fake;
  for (const Kind kind : {Kind::created, Kind::legacy}) {
    const EngineStream engine = stream_of(fake, kind);
    const Gpus gpus = one_gpu({.order_after = engine, .order_before = engine});
    LoadScene scene(fake, gpus);
    fill_scene(scene);
    options_.ready = [](const GroupReady&) { return Result<void>(); };
    const CallersThread caller(fake);
    EXPECT_OK(load(scene.plan, options_));
    caller.expect_untouched();
  }
  EXPECT_THAT(fake.misuse(), IsEmpty());
}

// Its current device is another one's: the default stream would be, too.
TEST_F(Load, WantsTheGpuToBeCurrentForTheThreadsDefaultStream) {
  FakeCuda fake({.devices = 2});
  for (const bool after : {true, false}) {
    CudaDeviceOptions options;
    (after ? options.order_after : options.order_before) = EngineStream::per_thread();
    const Gpus gpus = one_gpu(options);
    LoadScene scene(fake, gpus);
    fill_scene(scene);
    fake.set_last_error_of_this_thread(cudaSuccess);
    fake.engine_device(1);
    const Result<LoadReport> loaded = load(scene.plan, options_);
    EXPECT_ERROR(loaded, device_error);
    EXPECT_THAT(loaded.error().message, HasSubstr(after ? "order_after" : "order_before"));
    EXPECT_THAT(loaded.error().message, HasSubstr("the device must be current on the thread"));
    EXPECT_EQ(fake.last_error_of_this_thread(), cudaSuccess);
    EXPECT_EQ(fake.capture_mode_of_this_thread(), cudaStreamCaptureModeGlobal);
    fake.engine_device(0);
    EXPECT_OK(load(scene.plan, options_));
  }
  EXPECT_THAT(fake.leaks(), IsEmpty());
}

// ---- graphs -------------------------------------------------------------------------------------

class LoadDuringACapture : public Load {};
INSTANTIATE_TEST_SUITE_P(Streams, LoadDuringACapture, testing::ValuesIn(kKinds));

// Another thread captures in the global mode, from before the device is made until after it is
// gone.
TEST_P(LoadDuringACapture, SpoilsNoGraphOfAnotherThread) {
  FakeCuda fake({.not_ready_queries = 1});
  const cudaStream_t captured = fake.engine_stream(0);
  fake.engine_begin_capture(captured);
  std::thread([&] {
    const EngineStream engine = stream_of(fake, GetParam());
    const auto devices = cuda::make_cuda_devices(FakeCuda::api());
    EXPECT_OK(devices);
    const Gpus gpus = one_gpu({.order_after = engine, .order_before = engine});
    const DeviceBuffer memory = DeviceBuffer::allocate(*gpus[0], 1000).value();
    LoadScene scene(fake, gpus);
    fill_scene(scene);
    options_.ready = [](const GroupReady&) { return Result<void>(); };
    EXPECT_OK(load(scene.plan, options_));
    std::vector<std::byte> out(1000);
    EXPECT_OK(gpus[0]->memory()->read_back(memory.data(), out));
    EXPECT_EQ(fake.capture_mode_of_this_thread(), cudaStreamCaptureModeGlobal);
  }).join();
  EXPECT_TRUE(fake.engine_end_capture(captured));
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// The thread that captures is the one that loads.
TEST_F(LoadDuringACapture, SpoilsNoGraphOfTheCaller) {
  for (const cudaStreamCaptureMode mode :
       {cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal}) {
    FakeCuda fake;
    const cudaStream_t captured = fake.engine_stream(0);
    {
      const Gpus gpus = one_gpu({.order_after = EngineStream::per_thread()});
      LoadScene scene(fake, gpus);
      fill_scene(scene);
      fake.engine_begin_capture(captured, mode);
      EXPECT_OK(load(scene.plan, options_));
    }
    EXPECT_TRUE(fake.engine_end_capture(captured));
    EXPECT_THAT(fake.ledger(), IsEmpty());
  }
}

// Nor the graph of the very stream that it was given.
TEST_F(LoadDuringACapture, RefusesAStreamThatIsCaptured) {
  using Option = std::optional<EngineStream> CudaDeviceOptions::*;
  for (const Option option : {&CudaDeviceOptions::stream, &CudaDeviceOptions::order_after,
                              &CudaDeviceOptions::order_before}) {
    FakeCuda fake;
    const cudaStream_t engine = fake.engine_stream(0);
    CudaDeviceOptions options;
    options.*option = EngineStream::created(engine);
    {
      const Gpus gpus = one_gpu(options);
      LoadScene scene(fake, gpus);
      fill_scene(scene);
      fake.engine_begin_capture(engine);
      EXPECT_ERROR(cuda::make_cuda_device(FakeCuda::api(), 0, options), stream_capturing);
      EXPECT_ERROR(load(scene.plan, options_), stream_capturing);
      EXPECT_TRUE(fake.engine_end_capture(engine));
      EXPECT_OK(load(scene.plan, options_));
    }
    EXPECT_THAT(fake.ledger(), IsEmpty());
  }
}

TEST_F(LoadDuringACapture, RefusesTheLegacyStreamWhileABlockingOneIsCaptured) {
  for (const bool after : {true, false}) {
    FakeCuda fake;
    const cudaStream_t captured = fake.engine_stream(0, FakeCuda::StreamKind::blocking);
    CudaDeviceOptions options;
    (after ? options.order_after : options.order_before) = EngineStream::legacy();
    {
      const Gpus gpus = one_gpu(options);
      LoadScene scene(fake, gpus);
      fill_scene(scene);
      fake.engine_begin_capture(captured);
      EXPECT_ERROR(load(scene.plan, options_), stream_capturing);
      EXPECT_TRUE(fake.engine_end_capture(captured));
    }
    EXPECT_THAT(fake.ledger(), IsEmpty());
  }
}

// It began after load() did.
TEST_F(LoadDuringACapture, RefusesAStreamThatIsCapturedWhenAGroupIsReady) {
  FakeCuda fake;
  const cudaStream_t engine = fake.engine_stream(0);
  {
    const Gpus gpus = one_gpu({.order_before = EngineStream::created(engine)});
    LoadScene scene(fake, gpus);
    fill_scene(scene);
    std::vector<std::uint32_t> groups;
    options_.ready = [&](const GroupReady& ready) -> Result<void> {
      groups.push_back(ready.group);
      fake.engine_begin_capture(engine);
      return {};
    };
    EXPECT_ERROR(load(scene.plan, options_), stream_capturing);
    EXPECT_EQ(groups, std::vector<std::uint32_t>{1});
    EXPECT_TRUE(fake.engine_end_capture(engine));
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// ---- memory that the GPU shares with the host ---------------------------------------------------

class LoadToSharedMemory : public Load {
 protected:
  [[nodiscard]] std::size_t nbytes() const { return tensors_[0].bytes.size(); }
  [[nodiscard]] std::byte* managed(FakeCuda& fake) const {
    return static_cast<std::byte*>(fake.engine_allocate(0, nbytes(), FakeCuda::Memory::managed));
  }
  Result<LoadReport> load_to(Device& device, std::byte* to) const {
    LoadPlan plan;
    FLATBED_TRY(plan.add(checkpoint_, tensors_[0].name,
                         {.device = &device, .data = to, .capacity = nbytes()}));
    return load(plan, options_);
  }
  [[nodiscard]] bool arrived(const std::byte* at) const {
    return std::memcmp(at, tensors_[0].bytes.data(), nbytes()) == 0;
  }
};
INSTANTIATE_TEST_SUITE_P(Streams, LoadToSharedMemory, testing::ValuesIn(kKinds));

TEST_F(LoadToSharedMemory, ReadsStraightIntoIt) {
  for (const bool is_managed : {false, true}) {
    FakeCuda fake({.uses_host_pages = true});
    {
      const Gpus gpus = one_gpu({});
      std::vector<std::byte> host(nbytes());
      std::byte* const to = is_managed ? managed(fake) : host.data();
      std::size_t events = 1;
      options_.ready = [&](const GroupReady& ready) -> Result<void> {
        events = ready.events.size();
        return {};
      };
      EXPECT_OK(load_to(*gpus[0], to));
      EXPECT_TRUE(arrived(to));
      EXPECT_EQ(events, 0U);
      EXPECT_EQ(fake.calls("MemcpyAsync") + fake.calls("HostRegister"), 0U);
    }
    EXPECT_THAT(fake.ledger(), IsEmpty());
  }
}

// No stream orders what the processor writes: it waits itself.
TEST_P(LoadToSharedMemory, WaitsForWhatTheEngineHasQueued) {
  FakeCuda fake({.not_ready_queries = 2, .uses_host_pages = true});
  const EngineStream engine = stream_of(fake, GetParam());
  {
    const Gpus gpus = one_gpu({.order_after = engine});
    std::byte* const to = managed(fake);
    fake.engine_write(handle(engine), to, nbytes(), std::byte{9});
    EXPECT_OK(load_to(*gpus[0], to));
    EXPECT_TRUE(fake.engine_finish(handle(engine)));
    EXPECT_TRUE(arrived(to));
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST_F(LoadToSharedMemory, DoesNotWaitForEver) {
  for (const bool cancelled : {false, true}) {
    FakeCuda fake({.uses_host_pages = true});
    const std::atomic<bool> cancel = cancelled;
    const Gpus gpus = one_gpu({});
    std::byte* const to = managed(fake);
    fake.fail({.fault = Injection::Fault::not_ready, .call = "EventRecord", .forever = true});
    options_.device_timeout = std::chrono::milliseconds(cancelled ? 60'000 : 1);
    options_.cancel = &cancel;
    const Result<LoadReport> loaded = load_to(*gpus[0], to);
    EXPECT_TRUE(
        test::has_error(loaded, cancelled ? ErrorCode::cancelled : ErrorCode::device_timeout));
    fake.heal();
  }
}

TEST_F(LoadToSharedMemory, WaitsAsLongAsItIsTold) {
  FakeCuda fake({.uses_host_pages = true});
  {
    const Gpus gpus = one_gpu({});
    LoadPlan plan;
    ASSERT_OK(plan.add(checkpoint_, tensors_[0].name,
                       {.device = gpus[0].get(), .data = managed(fake), .capacity = nbytes()}));
    int waits = 0;
    LoadHooks hooks;
    hooks.now_ns = [] { return std::uint64_t{0}; };
    hooks.wait = [&waits](Device& device, Ticket ticket, std::chrono::nanoseconds most) {
      return ++waits < 3 ? Result<bool>(false) : device.wait(ticket, most);
    };
    options_.device_timeout = std::chrono::milliseconds::max();
    EXPECT_OK(load_with_hooks(plan, options_, hooks));
    EXPECT_EQ(waits, 3);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST_F(LoadToSharedMemory, IsCopiedToWhereItIsTheGpusOwn) {
  FakeCuda fake({.uses_host_pages = true});
  {
    const Gpus gpus = one_gpu({});
    LoadScene scene(fake, gpus);
    fill_scene(scene);
    EXPECT_OK(load(scene.plan, options_));
    scene.expect_all_arrived();
    EXPECT_GT(fake.calls("MemcpyAsync"), 0U);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST_F(LoadToSharedMemory, IsRefusedWhereTheGpuHasNoneOrItIsAnothers) {
  for (const bool shares : {false, true}) {
    FakeCuda fake({.devices = 2, .uses_host_pages = shares});
    const Gpus gpus = one_gpu({});
    std::vector<std::byte> host(nbytes());
    auto* const others = static_cast<std::byte*>(fake.engine_allocate(1, nbytes()));
    EXPECT_ERROR(load_to(*gpus[0], others), destination_invalid);
    const Result<LoadReport> loaded = load_to(*gpus[0], host.data());
    EXPECT_EQ(loaded.has_value(), shares);
    if (!shares) {
      EXPECT_THAT(loaded.error().message, HasSubstr("does not use the host's page tables"));
    }
    fake.fail({.call = "DeviceGetAttribute", .code = cudaErrorInvalidValue});
    const auto old = cuda::make_cuda_device(FakeCuda::api(), 0, {});
    ASSERT_OK(old);
    EXPECT_ERROR(load_to(**old, host.data()), destination_invalid);
  }
}

// ---- what is refused, and what fails ------------------------------------------------------------

TEST_F(Load, TakesNoNullStream) {
  using Option = std::optional<EngineStream> CudaDeviceOptions::*;
  FakeCuda fake;
  for (const Option option : {&CudaDeviceOptions::stream, &CudaDeviceOptions::order_after,
                              &CudaDeviceOptions::order_before}) {
    CudaDeviceOptions options;
    options.*option = EngineStream::created(nullptr);
    EXPECT_ERROR(cuda::make_cuda_device(FakeCuda::api(), 0, options), invalid_argument);
  }
  EXPECT_EQ(fake.calls(), 0U);
  EXPECT_EQ(handle(EngineStream::legacy()), cudaStreamLegacy);
  EXPECT_EQ(handle(EngineStream::per_thread()), cudaStreamPerThread);
}

// Each call fails in turn, also those on the caller's thread.
TEST_P(LoadAfterTheEngine, SurvivesEachCallThatFails) {
  std::uint64_t failed = 0;
  for (const char* const call : {"StreamIsCapturing", "ThreadExchangeStreamCaptureMode",
                                 "StreamWaitEvent", "EventRecord", "EventCreateWithFlags"}) {
    bool fired = true;
    for (std::uint64_t nth = 1; fired; ++nth) {
      FakeCuda fake;
      const EngineStream engine = stream_of(fake, GetParam());
      fake.set_last_error_of_this_thread(cudaSuccess);
      fake.fail({.call = call, .nth = nth, .code = cudaErrorLaunchFailure});
      {
        auto gpu = cuda::make_cuda_device(FakeCuda::api(), 0,
                                          {.order_after = engine, .order_before = engine});
        Gpus gpus;
        if (gpu) {
          gpus.push_back(*std::move(gpu));
          LoadScene scene(fake, gpus);
          fill_scene(scene);
          options_.threads = 1;
          options_.ready = [](const GroupReady&) { return Result<void>(); };
          const Result<LoadReport> loaded = load(scene.plan, options_);
          // A reader drains without an event, and the device can do without its mode at the end.
          if (loaded) {
            scene.expect_all_arrived();
          } else {
            EXPECT_EQ(loaded.error().code, ErrorCode::device_error);
          }
        }
        fired = fake.injection_fired();
        failed += fired ? 1 : 0;
      }
      EXPECT_EQ(fake.last_error_of_this_thread(), cudaSuccess);
      EXPECT_THAT(fake.ledger(), IsEmpty()) << call << " " << nth;
    }
  }
  EXPECT_GT(failed, 12U);
}

}  // namespace
}  // namespace flatbed
