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
