// run_load_stress(): loads of whatever a seed says, over the fake CUDA runtime, and all that must
// be true of them. The same seed makes the same plans, options and faults; which thread is first is
// the system's choice.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "support/fake_cuda.hpp"
#include "support/load_gpu.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed::test {

struct StressCounts {
  std::atomic<std::uint64_t> loads = 0;
  std::atomic<std::uint64_t> complete = 0;
  std::atomic<std::uint64_t> cancelled = 0;
  std::atomic<std::uint64_t> failed = 0;  // on purpose
};

// The files that are loaded: small, so that slots are mostly empty.
struct StressModels {
  StressModels() {
    fill(tensors);
    sealed = write_model(dir / "sealed", tensors, true);
    plain = write_model(dir / "plain", tensors, false);
  }
  TempDir dir;
  std::vector<ModelTensor> tensors{
      {"chunks", Dtype::u8, {kChunk + 700}}, {"matrix", Dtype::f32, {24, 40}},
      {"cube", Dtype::bf16, {3, 5, 7}},      {"vector", Dtype::i64, {64}},
      {"block", Dtype::u8, {50, 800}},       {"scalar", Dtype::f32, {}},
      {"empty", Dtype::f32, {0, 3}},
  };
  std::optional<Checkpoint> sealed;
  std::optional<Checkpoint> plain;
};

class StressRun {
 public:
  StressRun(const StressModels& models, StressCounts& counts, std::uint64_t seed)
      : models_(models), counts_(counts), random_(seed) {}

  void run() {
    const FakeCudaOptions fake_options = draw_fake();
    FakeCuda fake(fake_options);
    {
      const Gpus gpus = make_gpus(fake, 2, one_in(3) ? Streams::engine : Streams::own);
      std::unique_ptr<StagingPool> pool;
      const bool two_loads = one_in(4);
      if (two_loads || one_in(4)) {
        const std::uint64_t ring = kSlot * (2 + up_to(3));
        pool = StagingPool::create(*gpus[up_to(2)], {ring, kSlot}).value();
      }
      draw_fault(fake, two_loads);
      std::vector<Load> loads(two_loads ? 2 : 1);
      for (Load& load : loads) draw(load, fake, gpus, pool.get());
      std::thread other;
      if (two_loads) other = std::thread([&] { run_load(loads[1], fake); });
      run_load(loads[0], fake);
      if (two_loads) other.join();
      if (fault_ && fault_->fault != Injection::Fault::sticky) fake.heal();
      if (!fault_) expect_streams_end(fake, loads);
    }
    EXPECT_THAT(fake.misuse(), testing::IsEmpty());
    if (!fault_) {
      EXPECT_THAT(fake.ledger(), testing::IsEmpty());
    }
    // Without SetDevice, which any call may be, no memory can be given back.
    if (fault_ && !abandoned_ && fault_->call != "SetDevice" && !fault_->call.empty() &&
        fault_->fault != Injection::Fault::sticky) {
      EXPECT_THAT(fake.leaks(), testing::IsEmpty())
          << "after call " << fault_->nth << " of '" << fault_->call << "' failed";
    }
  }

 private:
  static constexpr std::uint64_t kSlot = 512 << 10;

  struct Load {
    std::unique_ptr<LoadScene> scene;
    LoadOptions options;
    std::vector<cudaStream_t> streams;  // of the engine, one for each GPU
    const Device* second_gpu = nullptr;
    std::uint64_t cancel_at = 0;  // the n-th look at the clock; 0: never
    std::atomic<bool> cancel = false;
    std::atomic<std::uint64_t> looks = 0;
    HastyClock clock;
  };

  std::uint64_t up_to(std::uint64_t count) { return random_() % count; }
  bool one_in(std::uint64_t count) { return up_to(count) == 0; }

  FakeCudaOptions draw_fake() {
    FakeCudaOptions options;
    options.devices = 2;
    options.schedule = one_in(4) ? FakeSchedule::threads : FakeSchedule::random;
    options.seed = random_();
    options.piece_nbytes = std::size_t{1000} << up_to(8);
    options.last_first = one_in(2);
    options.not_ready_queries = static_cast<unsigned>(up_to(4));
    options.host_register_supported = !one_in(4);
    options.guard_sources = !one_in(3);
    options.track_writes = one_in(3);
    return options;
  }

  void draw_fault(FakeCuda& fake, bool two_loads) {
    using Fault = Injection::Fault;
    if (!one_in(5)) return;
    constexpr const char* kCalls[] = {"SetDevice",
                                      "MemcpyAsync",
                                      "Memcpy2DAsync",
                                      "EventQuery",
                                      "EventCreateWithFlags",
                                      "EventRecord",
                                      "StreamQuery",
                                      ""};
    constexpr Fault kFaults[] = {Fault::error, Fault::error, Fault::at_completion, Fault::sticky,
                                 Fault::not_ready};
    fault_ = Injection{.fault = kFaults[up_to(std::size(kFaults))],
                       .call = kCalls[up_to(std::size(kCalls))],
                       .nth = 1 + up_to(one_in(2) ? 3 : 20),
                       .code = cudaErrorLaunchFailure,
                       .forever = one_in(3)};
    // An error that is told once is told to either of two loads that share the GPUs.
    fault_->forever |= two_loads && fault_->fault == Fault::at_completion;
    fake.fail(*fault_);
  }

  void draw(Load& load, FakeCuda& fake, const Gpus& gpus, StagingPool* pool) {
    load.scene = std::make_unique<LoadScene>(fake, gpus);
    for (std::uint64_t i = 1 + up_to(10); i > 0; --i) draw_wish(*load.scene);
    load.second_gpu = gpus[1].get();
    for (int gpu = 0; gpu < 2; ++gpu) load.streams.push_back(fake.engine_stream(gpu));
    LoadOptions& options = load.options;
    options.verify = one_in(4) ? Verify::no : Verify::yes;
    options.io = static_cast<IoMode>(up_to(3));
    options.threads = static_cast<unsigned>(1 + up_to(4));
    options.pool = pool;
    options.staging_nbytes = kSlot * (2 + up_to(3));
    options.slot_nbytes = kSlot;
    // Without a fault no wait may end by itself, however long the GPU's own threads get no turn.
    options.device_timeout =
        fault_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds::max();
    if (one_in(6)) load.cancel_at = 1 + up_to(60);
    load.cancel = false;
    options.cancel = &load.cancel;
    if (one_in(3)) options.progress = [](const Progress&) -> Result<void> { return {}; };
    if (!one_in(4))
      options.ready = [this, &load, &fake](const GroupReady& ready) -> Result<void> {
        if (!fault_) see_group(load, fake, ready);
        return {};
      };
  }

  void draw_wish(LoadScene& scene) {
    Wish wish;
    // The large one less often.
    wish.tensor = &models_.tensors[one_in(2) ? up_to(models_.tensors.size()) : 1 + up_to(4)];
    if (!wish.tensor->shape.empty() && one_in(2)) {
      wish.slice.dim = up_to(wish.tensor->shape.size());
      const std::uint64_t size = wish.tensor->shape[wish.slice.dim];
      wish.slice.begin = up_to(size + 1);
      wish.slice.end = wish.slice.begin + up_to(size - wish.slice.begin + 1);
    }
    wish.gpu = static_cast<int>(up_to(4)) % 3 - 1;
    wish.gap_rows = one_in(3) ? 16 : 0;
    const auto id = static_cast<std::uint32_t>(up_to(8));
    wish.group = {id, static_cast<std::int32_t>(id * 7 % 3)};
    scene.add(one_in(3) ? *models_.plain : *models_.sealed, wish);
  }

  // The engine waits for what came, and reads it.
  static void see_group(const Load& load, FakeCuda& fake, const GroupReady& ready) {
    for (const GroupReady::Event& event : ready.events) {
      const int gpu = event.device == load.second_gpu ? 1 : 0;
      const cudaStream_t stream = load.streams[static_cast<std::size_t>(gpu)];
      fake.engine_wait(stream, static_cast<cudaEvent_t>(event.event));
      load.scene->engine_reads(stream, gpu, ready.group);
    }
  }

  void run_load(Load& load, FakeCuda& fake) {
    LoadHooks hooks = load.clock.hooks();
    hooks.now_ns = [&load, now_ns = hooks.now_ns] {
      if (load.looks.fetch_add(1, std::memory_order_relaxed) + 1 == load.cancel_at)
        load.cancel.store(true, std::memory_order_relaxed);
      return now_ns();
    };
    const CallersThread caller(fake);
    const Result<LoadReport> report = load_with_hooks(load.scene->plan, load.options, hooks);
    caller.expect_untouched();
    ++counts_.loads;
    const bool left_to_device =
        !report && report.error().message.find("are left to it") != std::string::npos;
    if (left_to_device) abandoned_ = true;  // copies may still run: nobody may look
    if (report) {
      ++counts_.complete;
      load.scene->expect_all_arrived();
      return;
    }
    for (const LoadScene::Target& target : load.scene->targets())
      EXPECT_TRUE(left_to_device || load.scene->border_is_whole(target));
    const Error& error = report.error();
    ++(error.code == ErrorCode::cancelled ? counts_.cancelled : counts_.failed);
    EXPECT_TRUE(error.code == ErrorCode::cancelled ? load.cancel_at != 0 : fault_.has_value())
        << name(error.code) << ": " << error.message;
  }

  static void expect_streams_end(FakeCuda& fake, const std::vector<Load>& loads) {
    for (const Load& load : loads)
      for (const cudaStream_t stream : load.streams) EXPECT_TRUE(fake.engine_finish(stream));
  }

  const StressModels& models_;
  StressCounts& counts_;
  std::mt19937_64 random_;
  std::optional<Injection> fault_;
  std::atomic<bool> abandoned_ = false;
};

inline void run_load_stress(const StressModels& models, StressCounts& counts, std::uint64_t seed) {
  StressRun(models, counts, seed).run();
}

}  // namespace flatbed::test
