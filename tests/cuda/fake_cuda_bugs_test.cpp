// Bugs that loaders had in 2026, none of which a test with a GPU found for sure, each re-enacted in
// a few lines against FakeCuda: it is found under every schedule, and its correct twin is clean.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "cuda/race_count.hpp"
#include "support/fake_cuda.hpp"

namespace flatbed {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::size_t kSlot = 256;  // small: the thread sanitizer reports each word

// A loader with two slots, as small as can be, that a test may have make mistakes.
class Loader {
 public:
  explicit Loader(std::size_t second_slot_at = kSlot) : second_slot_at_(second_slot_at) {
    EXPECT_EQ(api.SetDevice(0), cudaSuccess);
    void* memory = nullptr;
    EXPECT_EQ(api.HostAlloc(&memory, 2 * kSlot, 0), cudaSuccess);
    pinned = static_cast<std::byte*>(memory);
    EXPECT_EQ(api.StreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    for (cudaEvent_t& event : events) {
      EXPECT_EQ(api.EventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
    }
  }

  // Of a length that the compiler does not know, for the thread sanitizer to see it.
  void fill(std::size_t slot, int value) const {
    volatile std::size_t nbytes = kSlot;
    std::memset(pinned + slot * second_slot_at_, value, nbytes);
  }
  void copy(std::size_t slot, void* to) const {
    EXPECT_EQ(
        api.MemcpyAsync(to, pinned + slot * second_slot_at_, kSlot, cudaMemcpyHostToDevice, stream),
        cudaSuccess);
  }
  void record(std::size_t slot) const {
    EXPECT_EQ(api.EventRecord(events[slot], stream), cudaSuccess);
  }
  void wait(std::size_t slot) const {
    while (api.EventQuery(events[slot]) == cudaErrorNotReady) {
    }
  }
  void drain() const {
    while (api.StreamQuery(stream) == cudaErrorNotReady) {
    }
  }
  void close() const {
    EXPECT_EQ(api.FreeHost(pinned), cudaSuccess);
    for (const cudaEvent_t event : events) EXPECT_EQ(api.EventDestroy(event), cudaSuccess);
    EXPECT_EQ(api.StreamDestroy(stream), cudaSuccess);
  }

  const cuda::CudaApi& api = FakeCuda::api();
  std::byte* pinned = nullptr;
  cudaStream_t stream = nullptr;
  cudaEvent_t events[2] = {};

 private:
  std::size_t second_slot_at_;
};

enum class Code { correct, broken };
constexpr std::string_view kModified = "was modified in flight";

class Bug : public ::testing::TestWithParam<FakeSchedule> {
 protected:
  // Runs the code in both ways.
  template <typename Run>
  void expect_found(std::string_view sentence, const Run& run) const {
    {
      FakeCuda fake({.schedule = GetParam(), .piece_nbytes = 50});
      run(fake, Code::correct);
      EXPECT_THAT(fake.ledger(), IsEmpty());
    }
    const ExpectRaces races;
    FakeCuda fake({.schedule = GetParam(), .piece_nbytes = 50});
    run(fake, Code::broken);
    EXPECT_THAT(fake.ledger(), Contains(HasSubstr(std::string(sentence))));
    EXPECT_TRUE(sentence != kModified || races.count() > 0 || !kSeesRaces);
  }
};
INSTANTIATE_TEST_SUITE_P(FakeCuda, Bug,
                         ::testing::Values(FakeSchedule::lazy, FakeSchedule::eager,
                                           FakeSchedule::random, FakeSchedule::threads));

// 1bit-MONSTER 2344: the staging buffer is filled again with no wait.
TEST_P(Bug, ASlotIsFilledAgainBeforeItsEvent) {
  expect_found(kModified, [](FakeCuda& fake, Code code) {
    const Loader loader;
    auto* const to = static_cast<std::byte*>(fake.engine_allocate(0, 2 * kSlot));
    for (int i = 0; i < 2; ++i) {
      if (code == Code::correct) loader.wait(0);
      loader.fill(0, i + 1);
      loader.copy(0, to + static_cast<std::size_t>(i) * kSlot);
      loader.record(0);
    }
    loader.drain();
    loader.close();
  });
}

// vllm 51667: the events are a local list of each call, and not drained when it returns.
TEST_P(Bug, EventsAreNotDrainedBetweenCalls) {
  expect_found(kModified, [](FakeCuda& fake, Code code) {
    const Loader loader;
    const auto call = [&](int value, void* to) {
      loader.fill(0, value);
      loader.copy(0, to);
      loader.record(0);
      if (code == Code::correct) loader.drain();
    };
    auto* const to = static_cast<std::byte*>(fake.engine_allocate(0, 2 * kSlot));
    call(1, to);
    call(2, to + kSlot);
    loader.drain();
    loader.close();
  });
}

// vllm-exl3 28: each slot is waited for, but both are the same memory.
TEST_P(Bug, TwoSlotsShareABuffer) {
  expect_found(kModified, [](FakeCuda& fake, Code code) {
    const Loader loader(code == Code::correct ? kSlot : 0);
    auto* const to = static_cast<std::byte*>(fake.engine_allocate(0, 2 * kSlot));
    for (std::size_t slot = 0; slot < 2; ++slot) {
      loader.wait(slot);
      loader.fill(slot, static_cast<int>(slot) + 1);
      loader.copy(slot, to + slot * kSlot);
      loader.record(slot);
    }
    loader.wait(0);
    loader.wait(1);
    loader.close();
  });
}

// tpu-sync 664: ready is said when the copy is queued.
TEST_P(Bug, ReadyIsSaidBeforeTheBytesHaveLanded) {
  expect_found("has not been waited for to write", [](FakeCuda& fake, Code code) {
    const Loader loader;
    void* const to = fake.engine_allocate(0, kSlot);
    const cudaStream_t engine = fake.engine_stream(0);
    loader.fill(0, 1);
    loader.copy(0, to);
    loader.record(0);
    if (code == Code::correct) loader.wait(0);
    fake.engine_read(engine, to, kSlot);
    loader.wait(0);
    EXPECT_TRUE(fake.engine_finish(engine));
    loader.close();
  });
}

// ninfer-3090 44: the engine's non-blocking stream does not wait for the copy's.
TEST_P(Bug, TheEnginesStreamDoesNotWaitForTheEvent) {
  expect_found("has not been waited for to write", [](FakeCuda& fake, Code code) {
    const Loader loader;
    void* const to = fake.engine_allocate(0, kSlot);
    const cudaStream_t engine = fake.engine_stream(0);
    loader.fill(0, 1);
    loader.copy(0, to);
    loader.record(0);
    if (code == Code::correct) fake.engine_wait(engine, loader.events[0]);
    fake.engine_read(engine, to, kSlot);
    EXPECT_TRUE(fake.engine_finish(engine));
    loader.drain();
    loader.close();
  });
}

// safetensors, fastsafetensors: on the error path the slot goes back without an event.
TEST_P(Bug, ASlotIsGivenBackWithoutAnEventOnTheErrorPath) {
  expect_found(kModified, [](FakeCuda& fake, Code code) {
    const Loader loader;
    auto* const to = static_cast<std::byte*>(fake.engine_allocate(0, 2 * kSlot));
    fake.fail({.call = "EventRecord"});
    loader.fill(0, 1);
    loader.copy(0, to);
    EXPECT_EQ(loader.api.EventRecord(loader.events[0], loader.stream), cudaErrorUnknown);
    if (code == Code::correct) loader.drain();
    loader.wait(0);  // never recorded: complete
    loader.fill(0, 2);
    loader.copy(0, to + kSlot);
    loader.drain();
    loader.close();
  });
}

// LMCache 4830, fastsafetensors: pinned memory goes before the copies from it have ended.
TEST_P(Bug, PinnedMemoryIsFreedInFlight) {
  expect_found("cudaFreeHost of pinned memory 1", [](FakeCuda& fake, Code code) {
    const Loader loader;
    void* const to = fake.engine_allocate(0, kSlot);
    loader.fill(0, 1);
    loader.copy(0, to);
    if (code == Code::correct) loader.drain();
    loader.close();
  });
}

// A library with a stream of its own copies to memory that the engine's allocator gave, while the
// engine's last kernel on that memory is queued: for each kind of stream that an engine has.
void copy_after_kernel(FakeCuda& fake, Code code, cudaStream_t engine) {
  const Loader loader;
  auto* const to = static_cast<std::byte*>(fake.engine_allocate(0, kSlot));
  fake.engine_write(engine, to, kSlot, std::byte{9});
  loader.fill(0, 1);
  if (code == Code::correct) {
    EXPECT_EQ(loader.api.EventRecord(loader.events[1], engine), cudaSuccess);
    EXPECT_EQ(loader.api.StreamWaitEvent(loader.stream, loader.events[1], 0), cudaSuccess);
    loader.copy(0, to);
    EXPECT_TRUE(fake.engine_finish(engine));
    loader.drain();
    EXPECT_EQ(fake.read_device(to, 1).front(), std::byte{1});
  } else {
    EXPECT_EQ(
        loader.api.MemcpyAsync(to, loader.pinned, kSlot, cudaMemcpyHostToDevice, loader.stream),
        cudaErrorInvalidValue);
  }
  loader.close();
}

TEST_P(Bug, TheDestinationIsStillWrittenByTheEngine) {
  const auto expect_with = [&](const auto& engine) {
    expect_found("its destination is still written in the engine's stream",
                 [&](FakeCuda& fake, Code code) { copy_after_kernel(fake, code, engine(fake)); });
  };
  expect_with([](FakeCuda& fake) { return fake.engine_stream(0); });
  expect_with([](FakeCuda&) { return cudaStreamLegacy; });
  expect_with([](FakeCuda&) { return cudaStreamPerThread; });
}

// Each thread has a default stream of its own, and each device.
TEST_P(Bug, TheDefaultStreamOfAnotherThreadIsRecorded) {
  expect_found("its destination is still written", [](FakeCuda& fake, Code code) {
    const Loader loader;
    auto* const to = static_cast<std::byte*>(fake.engine_allocate(0, kSlot));
    fake.engine_write(cudaStreamPerThread, to, kSlot, std::byte{9});
    const auto record = [&] {
      EXPECT_EQ(loader.api.SetDevice(0), cudaSuccess);
      EXPECT_EQ(loader.api.EventRecord(loader.events[1], cudaStreamPerThread), cudaSuccess);
    };
    code == Code::correct ? record() : std::thread(record).join();
    EXPECT_EQ(loader.api.StreamWaitEvent(loader.stream, loader.events[1], 0), cudaSuccess);
    const cudaError_t copied =
        loader.api.MemcpyAsync(to, loader.pinned, kSlot, cudaMemcpyHostToDevice, loader.stream);
    EXPECT_EQ(copied, code == Code::correct ? cudaSuccess : cudaErrorInvalidValue);
    loader.drain();
    loader.close();
  });
}

// The engine's next kernel would be launched on another GPU than it thinks.
TEST_P(Bug, TheEnginesThreadIsMovedToAnotherGpu) {
  expect_found("on a thread of the engine's, which was on device 0", [](FakeCuda& fake, Code code) {
    const Loader loader;
    fake.engine_device(0);
    const auto set = [&] { EXPECT_EQ(loader.api.SetDevice(0), cudaSuccess); };
    code == Code::correct ? std::thread(set).join() : set();
    loader.close();
  });
}

// The legacy stream comes after the blocking streams, and no others.
TEST_P(Bug, TheLegacyStreamIsTakenForOneThatWaitsForAll) {
  using Kind = FakeCuda::StreamKind;
  expect_found("its destination is still written", [](FakeCuda& fake, Code code) {
    const Loader loader;
    auto* const to = static_cast<std::byte*>(fake.engine_allocate(0, kSlot));
    const Kind kind = code == Code::correct ? Kind::blocking : Kind::non_blocking;
    fake.engine_write(fake.engine_stream(0, kind), to, kSlot, std::byte{9});
    EXPECT_EQ(loader.api.EventRecord(loader.events[1], cudaStreamLegacy), cudaSuccess);
    EXPECT_EQ(loader.api.StreamWaitEvent(loader.stream, loader.events[1], 0), cudaSuccess);
    const cudaError_t copied =
        loader.api.MemcpyAsync(to, loader.pinned, kSlot, cudaMemcpyHostToDevice, loader.stream);
    EXPECT_EQ(copied, code == Code::correct ? cudaSuccess : cudaErrorInvalidValue);
    loader.drain();
    loader.close();
  });
}

// The engine's stream is told to wait before there is anything to wait for.
TEST_P(Bug, AnEventIsWaitedForBeforeItIsRecorded) {
  for (const char* const sentence : {"which was never recorded", "has not been waited for"}) {
    expect_found(sentence, [](FakeCuda& fake, Code code) {
      const Loader loader;
      const cudaStream_t engine = fake.engine_stream(0);
      void* const to = fake.engine_allocate(0, kSlot);
      loader.fill(0, 1);
      loader.copy(0, to);
      const auto wait = [&] {
        EXPECT_EQ(loader.api.StreamWaitEvent(engine, loader.events[0], 0), cudaSuccess);
      };
      if (code == Code::broken) wait();
      loader.record(0);
      if (code == Code::correct) wait();
      fake.engine_read(engine, to, kSlot);
      loader.drain();
      EXPECT_TRUE(fake.engine_finish(engine));
      loader.close();
    });
  }
}

// NCCL's watchdog: a thread in the background asks for an event while another captures a graph.
TEST_P(Bug, APollSpoilsAGraphThatAnotherThreadCaptures) {
  expect_found("cudaEventQuery spoilt the graph", [](FakeCuda& fake, Code code) {
    const Loader loader;
    const cudaStream_t engine = fake.engine_stream(0);
    loader.record(0);
    fake.engine_begin_capture(engine);
    std::thread([&] {
      EXPECT_EQ(loader.api.SetDevice(0), cudaSuccess);
      cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
      if (code == Code::correct) {
        EXPECT_EQ(loader.api.ThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
        loader.wait(0);
      } else {
        EXPECT_EQ(loader.api.EventQuery(loader.events[0]), cudaErrorStreamCaptureUnsupported);
      }
    }).join();
    EXPECT_EQ(fake.engine_end_capture(engine), code == Code::correct);
    loader.close();
  });
}

// The engine captures the stream itself, or one that the legacy stream waits for.
TEST_P(Bug, AStreamIsUsedWhileItIsCaptured) {
  for (const bool legacy : {false, true}) {
    expect_found("cudaEventRecord in stream", [&](FakeCuda& fake, Code code) {
      const Loader loader;
      const cudaStream_t captured = fake.engine_stream(0, FakeCuda::StreamKind::blocking);
      const cudaStream_t used = legacy ? cudaStreamLegacy : captured;
      fake.engine_begin_capture(captured, cudaStreamCaptureModeRelaxed);
      cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
      EXPECT_EQ(loader.api.StreamIsCapturing(used, &status),
                legacy ? cudaErrorStreamCaptureImplicit : cudaSuccess);
      EXPECT_TRUE(legacy || status == cudaStreamCaptureStatusActive);
      if (code == Code::broken) {
        EXPECT_EQ(loader.api.EventRecord(loader.events[0], used),
                  legacy ? cudaErrorStreamCaptureImplicit : cudaErrorStreamCaptureUnsupported);
      }
      EXPECT_EQ(fake.engine_end_capture(captured), code == Code::correct);
      loader.close();
    });
  }
}

// llama.cpp: cancelled, it returns at once.
TEST_P(Bug, CancellingLeaks) {
  expect_found("was never given back", [](FakeCuda& fake, Code code) {
    const Loader loader;
    void* const to = fake.engine_allocate(0, kSlot);
    loader.fill(0, 1);
    loader.copy(0, to);
    if (code == Code::broken) return;
    loader.drain();
    loader.close();
  });
}

// vllm 37309: a view of a buffer is in use when the buffer is filled again.
TEST_P(Bug, AViewOutlivesItsBuffer) {
  const auto run = [](FakeCuda& fake, Code code) {
    const Loader loader;
    void* const buffer = fake.engine_allocate(0, kSlot);
    const cudaStream_t engine = fake.engine_stream(0);
    loader.fill(0, 1);
    loader.copy(0, buffer);
    loader.drain();
    fake.engine_read(engine, buffer, kSlot);
    if (code == Code::correct) {
      EXPECT_TRUE(fake.engine_finish(engine));
    }
    loader.fill(0, 2);
    EXPECT_EQ(
        loader.api.MemcpyAsync(buffer, loader.pinned, kSlot, cudaMemcpyHostToDevice, loader.stream),
        code == Code::correct ? cudaSuccess : cudaErrorInvalidValue);
    loader.drain();
    loader.close();
  };
  expect_found("its destination is still read in the engine's stream", run);
}

// ---- what the thread sanitizer is told
// -----------------------------------------------------------

// Two host threads call the fake, one after the other, and share an int; no event is between them.
TEST_P(Bug, CallsOfTwoThreadsOrderNothing) {
  const ExpectRaces races;
  const FakeCuda fake({.schedule = GetParam()});
  const Loader loader;
  // Apart: the thread sanitizer remembers only four accesses to eight bytes.
  alignas(64) std::atomic<bool> written = false;
  alignas(64) int shared = 0;
  std::thread first([&] {
    shared = 1;
    static_cast<void>(loader.api.StreamQuery(loader.stream));
    written.store(true, std::memory_order_relaxed);
  });
  while (!written.load(std::memory_order_relaxed)) std::this_thread::yield();
  static_cast<void>(loader.api.StreamQuery(loader.stream));
  shared = 2;
  first.join();
  EXPECT_EQ(races.count() > 0, kSeesRaces);
  loader.close();
}

// The same, but the one waits for an event that the other recorded.
TEST_P(Bug, AnEventOrdersTwoThreads) {
  FakeCuda fake({.schedule = GetParam()});
  const Loader loader;
  void* const to = fake.engine_allocate(0, kSlot);
  alignas(64) std::atomic<bool> recorded = false;
  alignas(64) int shared = 0;
  std::thread first([&] {
    loader.fill(0, 1);
    shared = 1;
    loader.copy(0, to);
    loader.record(0);
    recorded.store(true, std::memory_order_relaxed);
  });
  while (!recorded.load(std::memory_order_relaxed)) std::this_thread::yield();
  loader.wait(0);
  shared = 2;
  loader.fill(0, 2);
  first.join();
  loader.close();
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// Two threads with a slot each load into one buffer, waiting for their own events only.
void load_with_two_threads(FakeCuda& fake) {
  constexpr std::size_t kChunks = 16;
  const Loader loader;
  auto* const to = static_cast<std::byte*>(fake.engine_allocate(0, kChunks * kSlot));
  const auto work = [&](std::size_t slot) {
    EXPECT_EQ(loader.api.SetDevice(0), cudaSuccess);
    for (std::size_t chunk = slot; chunk < kChunks; chunk += 2) {
      loader.wait(slot);
      loader.fill(slot, static_cast<int>(chunk) + 1);
      loader.copy(slot, to + chunk * kSlot);
      loader.record(slot);
    }
    loader.wait(slot);
  };
  std::thread other(work, 1);
  work(0);
  other.join();
  loader.drain();
  loader.close();
  for (std::size_t chunk = 0; chunk < kChunks; ++chunk) {
    EXPECT_EQ(fake.read_device(to + chunk * kSlot + kSlot - 1, 1).front(),
              static_cast<std::byte>(chunk + 1));
  }
  EXPECT_EQ(fake.writes(to, kChunks * kSlot).once, kChunks * kSlot);
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST_P(Bug, IsNotSeenInCorrectCodeOfManySeeds) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    FakeCuda fake({.devices = 2,
                   .schedule = GetParam(),
                   .seed = seed,
                   .piece_nbytes = 70,
                   .last_first = seed % 2 == 0,
                   .not_ready_queries = static_cast<unsigned>(seed % 3)});
    load_with_two_threads(fake);
    if (HasFailure()) FAIL() << "seed " << seed;
  }
}

}  // namespace
}  // namespace flatbed
