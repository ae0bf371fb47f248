// CudaDevice's copies and tickets against the fake runtime: nothing runs before the test says so,
// and a copy reads its source only then.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cuda/cuda_device.hpp"
#include "support/expect_error.hpp"
#include "support/fake_cuda.hpp"

namespace flatbed {
namespace {

using testing::IsEmpty;

constexpr std::size_t kMiB = std::size_t{1} << 20;

// A device, `nbytes` of staging memory that hold 0, 1, ... 250, 0, 1, ..., and as many on the GPU.
struct Rig {
  explicit Rig(FakeCuda& runtime, std::size_t size = kMiB, void* stream = nullptr,
               const cuda::CudaDeviceLimits& limits = {})
      : fake(runtime), nbytes(size) {
    CudaDeviceOptions options;
    if (stream != nullptr) options.stream = EngineStream::created(stream);
    device = cuda::make_cuda_device(FakeCuda::api(), 0, options, limits).value();
    allocate();
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;
  ~Rig() {
    device->memory()->release(to, nbytes);
    device->unstage(from, nbytes);
  }

  void allocate() {
    from = device->stage(nbytes).value();
    to = device->memory()->allocate(nbytes).value();
    for (std::size_t i = 0; i < nbytes; ++i) from[i] = static_cast<std::byte>(i % 251);
  }
  Result<Ticket> copy(std::size_t offset, std::size_t size) {
    const CopyPiece piece{.from = from + offset, .to = to + offset, .nbytes = size};
    return device->copy({&piece, 1});
  }
  [[nodiscard]] bool arrived(std::size_t offset, std::size_t size) const {
    return std::memcmp(fake.read_device(to + offset, size).data(), from + offset, size) == 0;
  }
  void finish() {
    fake.heal();
    const Ticket ticket = device->fence().value();
    fake.run_all();
    EXPECT_TRUE(device->done(ticket).value());
  }

  FakeCuda& fake;
  std::size_t nbytes;
  std::unique_ptr<Device> device;
  std::byte* from = nullptr;
  std::byte* to = nullptr;
};

TEST(CudaDeviceCopy, IsDoneWhenTheGpuHasRunIt) {
  FakeCuda fake({.schedule = FakeSchedule::step});
  {
    Rig rig(fake);
    const Ticket ticket = rig.copy(0, kMiB).value();
    EXPECT_FALSE(rig.device->done(ticket).value());
    EXPECT_TRUE(fake.in_flight(rig.from, kMiB));
    fake.run_all();
    EXPECT_TRUE(rig.device->done(ticket).value());
    EXPECT_TRUE(rig.arrived(0, kMiB));
    EXPECT_FALSE(fake.in_flight(rig.from, kMiB));
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceCopy, ThatIsDoneMeansThatEarlierOnesAre) {
  FakeCuda fake;
  {
    Rig rig(fake);
    const Ticket first = rig.copy(0, 1000).value();
    const Ticket second = rig.copy(1000, 1000).value();
    EXPECT_TRUE(rig.device->done(second).value());
    EXPECT_FALSE(fake.in_flight(rig.from, 2000));
    EXPECT_TRUE(rig.device->done(first).value());
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceCopy, OfNothingIsDoneWhenEarlierOnesAre) {
  FakeCuda fake({.schedule = FakeSchedule::step});
  {
    Rig rig(fake);
    const Ticket first = rig.copy(0, 1000).value();
    const std::vector<CopyPiece> pieces{
        {.from = rig.from, .to = rig.to, .nbytes = 0},
        {.from = rig.from, .to = rig.to, .nbytes = 0, .rows = 3, .to_pitch = 5},
        {.from = rig.from, .to = rig.to, .nbytes = 5, .rows = 0}};
    const Ticket nothing = rig.device->copy(pieces).value();
    EXPECT_EQ(fake.calls("Memcpy2DAsync"), 0U);
    EXPECT_EQ(fake.calls("MemcpyAsync"), 1U);
    EXPECT_FALSE(rig.device->done(nothing).value());
    fake.run_all();
    EXPECT_TRUE(rig.device->done(nothing).value());
    rig.device->forget(first);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceCopy, OfRowsWithPitchesIsOneCall) {
  FakeCuda fake;
  {
    Rig rig(fake);
    const CopyPiece piece{.from = rig.from,
                          .to = rig.to + 16,
                          .nbytes = 100,
                          .rows = 50,
                          .from_pitch = 300,
                          .to_pitch = 128};
    const Ticket ticket = rig.device->copy({&piece, 1}).value();
    EXPECT_TRUE(rig.device->done(ticket).value());
    EXPECT_EQ(fake.calls("Memcpy2DAsync"), 1U);
    EXPECT_EQ(fake.calls("MemcpyAsync"), 0U);
    const std::vector<std::byte> found = fake.read_device(rig.to, 16 + 50 * 128);
    for (std::size_t row = 0; row < 50; ++row) {
      const std::byte* const at = found.data() + 16 + row * 128;
      EXPECT_EQ(std::memcmp(at, rig.from + row * 300, 100), 0) << row;
      EXPECT_EQ(at[100], FakeCuda::kCanary) << row;
    }
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceCopy, OfAdjacentRowsIsOneOfBytes) {
  FakeCuda fake;
  {
    Rig rig(fake);
    const CopyPiece piece{.from = rig.from,
                          .to = rig.to,
                          .nbytes = 100,
                          .rows = 50,
                          .from_pitch = 100,
                          .to_pitch = 100};
    const Ticket ticket = rig.device->copy({&piece, 1}).value();
    EXPECT_TRUE(rig.device->done(ticket).value());
    EXPECT_EQ(fake.calls("Memcpy2DAsync"), 0U);
    EXPECT_EQ(fake.calls("MemcpyAsync"), 1U);
    EXPECT_TRUE(rig.arrived(0, 5000));
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceCopy, RefusesRowsThatOverlap) {
  FakeCuda fake;
  {
    Rig rig(fake);
    const CopyPiece piece{.from = rig.from,
                          .to = rig.to,
                          .nbytes = 100,
                          .rows = 2,
                          .from_pitch = 99,
                          .to_pitch = 128};
    EXPECT_ERROR(rig.device->copy({&piece, 1}), invalid_argument);
    EXPECT_EQ(fake.calls("Memcpy2DAsync"), 0U);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// CUDA refuses a pitch of 2 GiB; memory that far apart is not looked at, only the calls are.
TEST(CudaDeviceCopy, CopiesRowsOneByOneWhereThePitchIsTooLarge) {
  static std::vector<const void*> sources;
  sources.clear();
  FakeCuda fake;
  {
    cuda::CudaApi api = FakeCuda::api();
    api.MemcpyAsync = [](void*, const void* from, size_t, cudaMemcpyKind, cudaStream_t) {
      sources.push_back(from);
      return cudaSuccess;
    };
    api.MemcpyBatchAsync = {};
    const auto device = cuda::make_cuda_device(api, 0, {}).value();
    std::byte byte{};
    CopyPiece piece{.from = &byte,
                    .to = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 40),
                    .nbytes = 1,
                    .rows = 3,
                    .from_pitch = 1,
                    .to_pitch = std::uint64_t{1} << 31};
    device->forget(device->copy({&piece, 1}).value());
    EXPECT_EQ(sources, (std::vector<const void*>{&byte, &byte + 1, &byte + 2}));
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceCopy, DoesNotCrossSegments) {
  FakeCuda fake({.batches_supported = false});
  {
    Rig rig(fake, 4 * kMiB, nullptr, {.segment_nbytes = kMiB});
    ASSERT_EQ(fake.calls("HostRegister"), 4U);
    const Ticket ticket = rig.copy(kMiB / 2, 3 * kMiB).value();
    EXPECT_TRUE(rig.device->done(ticket).value());
    EXPECT_EQ(fake.calls("MemcpyAsync"), 4U);
    EXPECT_TRUE(rig.arrived(kMiB / 2, 3 * kMiB));
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// Segments end at 1,048,576 and 2,097,152. Row 6 ends at 1,000,000 and row 7 begins at 1,050,000,
// row 13 ends at 2,050,000 and row 14 begins at 2,100,000: no row crosses.
TEST(CudaDeviceCopy, OfRowsIsCutBetweenThemWhereSegmentsMeet) {
  FakeCuda fake;
  {
    Rig rig(fake, 4 * kMiB, nullptr, {.segment_nbytes = kMiB});
    const CopyPiece piece{.from = rig.from,
                          .to = rig.to,
                          .nbytes = 100'000,
                          .rows = 20,
                          .from_pitch = 150'000,
                          .to_pitch = 150'000};
    const Ticket ticket = rig.device->copy({&piece, 1}).value();
    EXPECT_TRUE(rig.device->done(ticket).value());
    EXPECT_EQ(fake.calls("Memcpy2DAsync"), 3U);
    EXPECT_EQ(fake.calls("MemcpyAsync"), 0U);
    for (std::size_t row = 0; row < 20; ++row) EXPECT_TRUE(rig.arrived(row * 150'000, 100'000));
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// The row [1,000,000, 1,100,000) crosses: it is copied in two parts, its neighbours in rows.
TEST(CudaDeviceCopy, OfRowsCutsARowWhereSegmentsMeet) {
  FakeCuda fake({.batches_supported = false});
  {
    Rig rig(fake, 2 * kMiB, nullptr, {.segment_nbytes = kMiB});
    const CopyPiece piece{.from = rig.from,
                          .to = rig.to,
                          .nbytes = 100'000,
                          .rows = 10,
                          .from_pitch = 200'000,
                          .to_pitch = 100'000};
    const Ticket ticket = rig.device->copy({&piece, 1}).value();
    EXPECT_TRUE(rig.device->done(ticket).value());
    EXPECT_EQ(fake.calls("Memcpy2DAsync"), 2U);
    EXPECT_EQ(fake.calls("MemcpyAsync"), 2U);
    const std::vector<std::byte> found = fake.read_device(rig.to, 1'000'000);
    for (std::size_t row = 0; row < 10; ++row) {
      EXPECT_EQ(std::memcmp(found.data() + row * 100'000, rig.from + row * 200'000, 100'000), 0);
    }
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// ---- tickets --------------------------------------------------------------------------------

TEST(CudaDeviceTickets, UseTheirEventsAgain) {
  FakeCuda fake;
  {
    Rig rig(fake);
    for (std::size_t i = 0; i < 20; ++i) {
      const Ticket first = rig.copy(2000 * i, 1000).value();
      const Ticket second = rig.copy(2000 * i + 1000, 1000).value();
      EXPECT_NE(first, second);
      EXPECT_TRUE(rig.device->done(first).value());
      if (i % 2 == 0) {
        EXPECT_TRUE(rig.device->done(second).value());
      } else {
        rig.device->forget(second);
      }
    }
    rig.finish();
    EXPECT_EQ(fake.calls("EventCreateWithFlags"), 2U);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// Timing makes events slower, and nobody asks for it.
TEST(CudaDeviceTickets, HaveEventsWithoutTiming) {
  static unsigned int flags = 0;
  FakeCuda fake;
  cuda::CudaApi api = FakeCuda::api();
  api.EventCreateWithFlags = [](cudaEvent_t* event, unsigned int wanted) {
    flags = wanted;
    return FakeCuda::api().EventCreateWithFlags(event, wanted);
  };
  const auto device = cuda::make_cuda_device(api, 0, {}).value();
  EXPECT_TRUE(device->done(device->fence().value()).value());
  EXPECT_EQ(flags, cudaEventDisableTiming);
}

// The event of the first is the second's, and the slot, too: only the generation differs.
TEST(CudaDeviceTickets, ThatHaveEndedAreRefused) {
  FakeCuda fake({.schedule = FakeSchedule::step});
  {
    Rig rig(fake);
    const Ticket first = rig.copy(0, 1000).value();
    void* const event = rig.device->native_event(first);
    EXPECT_NE(event, nullptr);
    fake.run_all();
    EXPECT_TRUE(rig.device->done(first).value());
    const Ticket second = rig.copy(1000, 1000).value();
    EXPECT_EQ(rig.device->native_event(second), event);
    EXPECT_EQ(rig.device->native_event(first), nullptr);
    EXPECT_ERROR(rig.device->done(first), invalid_argument);
    rig.device->forget(first);
    EXPECT_FALSE(rig.device->done(second).value());
    fake.run_all();
    EXPECT_TRUE(rig.device->done(second).value());
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceTickets, ThatNeverWereAreRefused) {
  FakeCuda fake;
  const auto device = cuda::make_cuda_device(FakeCuda::api(), 0, {}).value();
  for (const Ticket ticket : {Ticket{0}, Ticket{1}, Ticket{1} << 32, ~Ticket{0}}) {
    EXPECT_ERROR(device->done(ticket), invalid_argument);
    EXPECT_EQ(device->native_event(ticket), nullptr);
    device->forget(ticket);
  }
  const Ticket first = device->fence().value();
  EXPECT_ERROR(device->done(first + 1), invalid_argument);
  EXPECT_ERROR(device->done(first + (Ticket{1} << 32)), invalid_argument);
  EXPECT_TRUE(device->done(first).value());
  // The next one of the slot, before there is one.
  EXPECT_ERROR(device->done(first + (Ticket{1} << 32)), invalid_argument);
}

TEST(CudaDeviceTickets, HaveAnEventThatStreamsOfTheEngineCanWaitFor) {
  FakeCuda fake({.schedule = FakeSchedule::step});
  {
    Rig rig(fake);
    const cudaStream_t stream = fake.engine_stream(0);
    const Ticket ticket = rig.copy(0, kMiB).value();
    fake.engine_wait(stream, static_cast<cudaEvent_t>(rig.device->native_event(ticket)));
    // The event is reused for a later copy; earlier waiters still wait for the earlier copy.
    rig.device->forget(ticket);
    fake.engine_read(stream, rig.to, kMiB);
    EXPECT_TRUE(fake.engine_finish(stream));
    rig.finish();
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceTickets, NotReadyIsNoErrorAndLeavesNone) {
  FakeCuda fake({.not_ready_queries = 3});
  {
    Rig rig(fake);
    fake.set_last_error_of_this_thread(cudaSuccess);
    const Ticket ticket = rig.copy(0, 1000).value();
    for (int i = 0; i < 3; ++i) EXPECT_FALSE(rig.device->done(ticket).value());
    EXPECT_EQ(fake.last_error_of_this_thread(), cudaSuccess);
    EXPECT_TRUE(rig.device->done(ticket).value());
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// Each refills its slot as soon as its ticket is done; the fake sees any byte that is written
// too early, and under the thread sanitizer any order that only the schedule made.
TEST(CudaDeviceTickets, KeepThreadsApartThatCopyAtOnce) {
  constexpr std::size_t kSlot = 10'000;
  constexpr std::size_t kRounds = 20;
  constexpr std::size_t kThreads = 3;
  for (const FakeSchedule schedule : {FakeSchedule::random, FakeSchedule::threads}) {
    FakeCuda fake({.schedule = schedule, .piece_nbytes = 1000});
    {
      Rig rig(fake, kThreads * kRounds * kSlot);
      const auto work = [&](std::size_t number) {
        std::byte* const slot = rig.from + number * kSlot;
        for (std::size_t round = 0; round < kRounds; ++round) {
          std::memset(slot, static_cast<int>(number * kRounds + round), kSlot);
          const CopyPiece piece{
              .from = slot, .to = rig.to + (number * kRounds + round) * kSlot, .nbytes = kSlot};
          const Ticket ticket = rig.device->copy({&piece, 1}).value();
          while (!rig.device->done(ticket).value()) std::this_thread::yield();
        }
      };
      std::vector<std::thread> threads;
      for (std::size_t i = 0; i < kThreads; ++i) threads.emplace_back(work, i);
      for (std::thread& thread : threads) thread.join();
      const std::vector<std::byte> found = fake.read_device(rig.to, rig.nbytes);
      for (std::size_t i = 0; i < kThreads * kRounds; ++i) {
        EXPECT_EQ(found[i * kSlot], static_cast<std::byte>(i));
        EXPECT_EQ(found[i * kSlot + kSlot - 1], static_cast<std::byte>(i));
      }
    }
    EXPECT_LE(fake.calls("EventCreateWithFlags"), kThreads);
    EXPECT_THAT(fake.ledger(), IsEmpty());
  }
}

// ---- many at once ---------------------------------------------------------------------------

// 5,000 tensors of 100 bytes, at other distances than in the file.
std::vector<CopyPiece> small_pieces(const Rig& rig) {
  std::vector<CopyPiece> pieces;
  for (std::size_t i = 0; i < 5000; ++i) {
    pieces.push_back({.from = rig.from + i * 100, .to = rig.to + i * 200, .nbytes = 100});
  }
  return pieces;
}

void expect_small_pieces(const Rig& rig) {
  const std::vector<std::byte> found = rig.fake.read_device(rig.to, rig.nbytes);
  for (std::size_t i = 0; i < 5000; ++i) {
    ASSERT_EQ(std::memcmp(found.data() + i * 200, rig.from + i * 100, 100), 0) << i;
    ASSERT_EQ(found[i * 200 + 100], FakeCuda::kCanary) << i;
  }
}

TEST(CudaDeviceCopy, OfManyPiecesIsFewCalls) {
  FakeCuda fake;
  {
    Rig rig(fake);
    const Ticket ticket = rig.device->copy(small_pieces(rig)).value();
    EXPECT_TRUE(rig.device->done(ticket).value());
    EXPECT_EQ(fake.calls("MemcpyBatchAsync"), 2U);
    EXPECT_EQ(fake.calls("MemcpyAsync"), 0U);
    expect_small_pieces(rig);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// CUDA knows no batches, or says that it supports none: it is asked once.
TEST(CudaDeviceCopy, OfManyPiecesIsACallForEachWhereThereAreNoBatches) {
  for (const bool known : {false, true}) {
    FakeCuda fake({.batches_supported = false});
    cuda::CudaApi api = FakeCuda::api();
    if (!known) api.MemcpyBatchAsync = {};
    {
      Rig rig(fake);
      rig.device->memory()->release(rig.to, rig.nbytes);
      rig.device->unstage(rig.from, rig.nbytes);
      rig.device = cuda::make_cuda_device(api, 0, {}).value();
      rig.allocate();
      const Ticket ticket = rig.device->copy(small_pieces(rig)).value();
      EXPECT_TRUE(rig.device->done(ticket).value());
      EXPECT_EQ(fake.calls("MemcpyBatchAsync"), known ? 1U : 0U);
      EXPECT_EQ(fake.calls("MemcpyAsync"), 5000U);
      EXPECT_EQ(fake.last_error_of_this_thread(), cudaSuccess);
      expect_small_pieces(rig);
    }
    EXPECT_THAT(fake.ledger(), IsEmpty());
  }
}

// A runtime that knows batches, over a driver that does not.
TEST(CudaDeviceCopy, OfManyPiecesIsACallForEachWhereTheDriverIsOlderThanBatches) {
  FakeCuda fake;
  {
    Rig rig(fake);
    fake.fail({.call = "MemcpyBatchAsync", .code = cudaErrorCallRequiresNewerDriver});
    const Ticket ticket = rig.device->copy(small_pieces(rig)).value();
    EXPECT_TRUE(rig.device->done(ticket).value());
    EXPECT_EQ(fake.calls("MemcpyBatchAsync"), 1U);
    expect_small_pieces(rig);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceCopy, OfManyPiecesThatFailedLeavesThemToAFence) {
  FakeCuda fake({.schedule = FakeSchedule::step});
  {
    Rig rig(fake);
    fake.fail({.call = "MemcpyBatchAsync", .nth = 2, .code = cudaErrorLaunchFailure});
    const auto copied = rig.device->copy(small_pieces(rig));
    ASSERT_FALSE(copied);
    EXPECT_EQ(copied.error().message.rfind(
                  "cuda:0: cudaMemcpyBatchAsync of 904 copies: cudaErrorLaunchFailure: ", 0),
              0U)
        << copied.error().message;
    const Ticket fence = rig.device->fence().value();
    EXPECT_FALSE(rig.device->done(fence).value());
    fake.run_all();
    EXPECT_TRUE(rig.device->done(fence).value());
    EXPECT_FALSE(fake.in_flight(rig.from, rig.nbytes));
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// ---- failures -------------------------------------------------------------------------------

TEST(CudaDeviceCopy, ThatFailedLeavesItsPiecesToAFence) {
  FakeCuda fake({.schedule = FakeSchedule::step, .batches_supported = false});
  {
    Rig rig(fake);
    const std::vector<CopyPiece> pieces{
        {.from = rig.from, .to = rig.to, .nbytes = 1000},
        {.from = rig.from + 1000, .to = rig.to + 1000, .nbytes = 4096}};
    fake.fail({.call = "MemcpyAsync", .nth = 2, .code = cudaErrorLaunchFailure});
    const auto copied = rig.device->copy(pieces);
    ASSERT_FALSE(copied);
    EXPECT_EQ(copied.error().code, ErrorCode::device_error);
    EXPECT_EQ(copied.error().message.rfind(
                  "cuda:0: cudaMemcpyAsync of 4096 bytes: cudaErrorLaunchFailure: ", 0),
              0U)
        << copied.error().message;
    EXPECT_EQ(fake.last_error_of_this_thread(), cudaSuccess);
    const Ticket fence = rig.device->fence().value();
    EXPECT_FALSE(rig.device->done(fence).value());
    EXPECT_TRUE(fake.in_flight(rig.from, 1000));
    fake.run_all();
    EXPECT_TRUE(rig.device->done(fence).value());
    EXPECT_FALSE(fake.in_flight(rig.from, 1000));
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// The event that was not recorded would say that all is done.
TEST(CudaDeviceCopy, WhoseRecordFailedGivesNoTicket) {
  FakeCuda fake({.schedule = FakeSchedule::step});
  {
    Rig rig(fake);
    fake.fail({.call = "EventRecord", .code = cudaErrorLaunchFailure});
    EXPECT_ERROR(rig.copy(0, 1000), device_error);
    EXPECT_TRUE(fake.in_flight(rig.from, 1000));
    const Ticket fence = rig.device->fence().value();
    EXPECT_FALSE(rig.device->done(fence).value());
    fake.run_all();
    EXPECT_TRUE(rig.device->done(fence).value());
  }
  EXPECT_EQ(fake.calls("EventCreateWithFlags"), 1U);  // after a new record it is right again
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceFence, AsksTheStreamWhereItCanHaveNoEvent) {
  for (const char* const call : {"EventRecord", "EventCreateWithFlags"}) {
    FakeCuda fake({.schedule = FakeSchedule::step});
    {
      Rig rig(fake);
      const Ticket copied = rig.copy(0, 1000).value();
      fake.fail({.call = call, .code = cudaErrorMemoryAllocation, .forever = true});
      const Ticket fence = rig.device->fence().value();
      EXPECT_EQ(fake.last_error_of_this_thread(), cudaSuccess);
      EXPECT_EQ(rig.device->native_event(fence), nullptr);
      EXPECT_FALSE(rig.device->done(fence).value());
      EXPECT_EQ(fake.last_error_of_this_thread(), cudaSuccess);
      fake.run_all();
      EXPECT_TRUE(rig.device->done(fence).value());
      EXPECT_FALSE(fake.in_flight(rig.from, 1000));
      fake.heal();
      EXPECT_TRUE(rig.device->done(copied).value());
      rig.finish();
    }
    EXPECT_THAT(fake.ledger(), IsEmpty());
  }
}

TEST(CudaDeviceFence, FailsWhereNeitherEventNorStreamCanBeHad) {
  FakeCuda fake;
  {
    Rig rig(fake);
    fake.fail({.call = "EventRecord", .code = cudaErrorLaunchFailure});
    fake.fail({.call = "StreamQuery", .code = cudaErrorLaunchFailure});
    const auto fence = rig.device->fence();
    ASSERT_FALSE(fence);
    EXPECT_NE(fence.error().message.find("cudaEventRecord"), std::string::npos);
    rig.finish();
  }
  EXPECT_EQ(fake.calls("EventCreateWithFlags"), 1U);
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceTickets, EndWithAnErrorAndTheirEventIsNotUsedAgain) {
  FakeCuda fake;
  {
    Rig rig(fake);
    const Ticket ticket = rig.copy(0, 1000).value();
    fake.fail({.call = "EventQuery", .code = cudaErrorIllegalAddress});
    EXPECT_ERROR(rig.device->done(ticket), device_error);
    EXPECT_ERROR(rig.device->done(ticket), invalid_argument);
    EXPECT_EQ(fake.last_error_of_this_thread(), cudaSuccess);
    rig.finish();
    EXPECT_EQ(fake.calls("EventCreateWithFlags"), 2U);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// ---- streams --------------------------------------------------------------------------------

TEST(CudaDeviceStream, OfTheEngineIsUsedAndLeftAlone) {
  FakeCuda fake;
  const cudaStream_t stream = fake.engine_stream(0);
  {
    Rig rig(fake, kMiB, stream);
    rig.device->forget(rig.copy(0, kMiB).value());
    // In the stream, and so after the copy.
    fake.engine_read(stream, rig.to, kMiB);
    rig.finish();
  }
  EXPECT_EQ(fake.calls("EventCreateWithFlags"), 2U);  // one of them to try the stream
  EXPECT_EQ(fake.calls("StreamCreateWithFlags"), 0U);
  EXPECT_EQ(fake.calls("StreamDestroy"), 0U);
  EXPECT_TRUE(fake.engine_finish(stream));
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceStream, OfAnotherDeviceIsRefused) {
  FakeCuda fake({.devices = 2});
  void* const stream = fake.engine_stream(1);
  const auto device =
      cuda::make_cuda_device(FakeCuda::api(), 0, {.stream = EngineStream::created(stream)});
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().code, ErrorCode::device_error);
  EXPECT_EQ(device.error().message.rfind("cuda:0: stream: cudaEventRecord: ", 0), 0U)
      << device.error().message;
  EXPECT_THAT(fake.leaks(), IsEmpty());
}

TEST(CudaDeviceStream, ThatIsADefaultOneIsRefused) {
  FakeCuda fake;
  for (const EngineStream stream : {EngineStream::legacy(), EngineStream::per_thread()}) {
    EXPECT_ERROR(cuda::make_cuda_device(FakeCuda::api(), 0, {.stream = stream}), invalid_argument);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

}  // namespace
}  // namespace flatbed
