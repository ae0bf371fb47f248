// FakeCuda behaves as CUDA's documentation says, and reports code that relies on more.
#include "support/fake_cuda.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "cuda/race_count.hpp"

namespace flatbed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::size_t kBytes = 8192;

// A pinned block, a destination of the engine's, a stream and an event on device 0.
class Rig {
 public:
  explicit Rig(const FakeCudaOptions& options = {.piece_nbytes = 1000}) : fake(options) {
    EXPECT_EQ(api.SetDevice(0), cudaSuccess);
    void* memory = nullptr;
    EXPECT_EQ(api.HostAlloc(&memory, kBytes, 0), cudaSuccess);
    slot = static_cast<std::byte*>(memory);
    EXPECT_EQ(api.StreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    EXPECT_EQ(api.EventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
    device = static_cast<std::byte*>(fake.engine_allocate(0, 4 * kBytes));
  }

  // Of a length that the compiler does not know: what it makes of a known one is not seen by the
  // thread sanitizer.
  void fill(int value) const {
    volatile std::size_t nbytes = kBytes;
    std::memset(slot, value, nbytes);
  }
  [[nodiscard]] cudaError_t copy(std::size_t to = 0) const {
    return api.MemcpyAsync(device + to, slot, kBytes, cudaMemcpyHostToDevice, stream);
  }
  void wait() const {
    while (api.EventQuery(event) == cudaErrorNotReady) {
    }
  }
  void close() const {
    EXPECT_EQ(api.FreeHost(slot), cudaSuccess);
    EXPECT_EQ(api.EventDestroy(event), cudaSuccess);
    EXPECT_EQ(api.StreamDestroy(stream), cudaSuccess);
  }
  [[nodiscard]] std::vector<std::byte> arrived(std::size_t at = 0) const {
    return fake.read_device(device + at, kBytes);
  }

  mutable FakeCuda fake;  // tests ask and drive it through a constant rig, too
  const cuda::CudaApi& api = FakeCuda::api();
  std::byte* slot = nullptr;
  std::byte* device = nullptr;
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
};

std::vector<std::byte> bytes(int value) {
  return std::vector<std::byte>(kBytes, static_cast<std::byte>(value));
}

std::string first_of(const std::vector<std::string>& sentences) {
  return sentences.empty() ? "" : sentences.front();
}

TEST(FakeCuda, FillsTheWholeTable) {
  using Call = cuda::CudaCall<void()>;  // all calls have its size
  std::array<std::array<std::byte, sizeof(Call)>, sizeof(cuda::CudaApi) / sizeof(Call)> entries;
  std::memcpy(entries.data(), &FakeCuda::api(), sizeof(cuda::CudaApi));
  for (const auto& entry : entries) EXPECT_NE(entry, decltype(entries)::value_type{});
}

class EachSchedule : public ::testing::TestWithParam<FakeSchedule> {};
INSTANTIATE_TEST_SUITE_P(FakeCuda, EachSchedule,
                         ::testing::Values(FakeSchedule::lazy, FakeSchedule::eager,
                                           FakeSchedule::random, FakeSchedule::threads));

TEST_P(EachSchedule, DeliversWhatAnEventSaysIsThere) {
  const Rig rig({.schedule = GetParam(), .piece_nbytes = 1000});
  for (int round = 1; round <= 3; ++round) {
    rig.fill(round);
    ASSERT_EQ(rig.copy(), cudaSuccess);
    ASSERT_EQ(rig.api.EventRecord(rig.event, rig.stream), cudaSuccess);
    rig.wait();
    EXPECT_EQ(rig.arrived(), bytes(round));
  }
  rig.close();
  EXPECT_THAT(rig.fake.ledger(), IsEmpty());
}

TEST_P(EachSchedule, NoticesASourceThatIsModifiedInFlight) {
  const ExpectRaces races;
  const Rig rig({.schedule = GetParam(), .piece_nbytes = 1000});
  rig.fill(1);
  ASSERT_EQ(rig.copy(), cudaSuccess);
  ASSERT_EQ(rig.api.EventRecord(rig.event, rig.stream), cudaSuccess);
  rig.fill(2);
  rig.wait();
  EXPECT_THAT(first_of(rig.fake.misuse()), HasSubstr("was modified in flight"));
  EXPECT_EQ(races.count() > 0, kSeesRaces);
}

TEST(FakeCuda, RunsNothingWhenItIsSubmitted) {
  const ExpectRaces races;
  const Rig rig;
  rig.fill(1);
  ASSERT_EQ(rig.copy(), cudaSuccess);
  EXPECT_EQ(rig.arrived(), std::vector<std::byte>(kBytes, FakeCuda::kCanary));
  EXPECT_TRUE(rig.fake.in_flight(rig.slot, 1));
  EXPECT_EQ(rig.api.StreamQuery(rig.stream), cudaSuccess);
  EXPECT_EQ(rig.arrived(), bytes(1));
  EXPECT_FALSE(rig.fake.in_flight(rig.slot, kBytes));
}

TEST(FakeCuda, RunsOnlyWhatAnEventNeeds) {
  const Rig rig;
  rig.fill(1);
  ASSERT_EQ(rig.copy(0), cudaSuccess);
  ASSERT_EQ(rig.api.EventRecord(rig.event, rig.stream), cudaSuccess);
  ASSERT_EQ(rig.copy(kBytes), cudaSuccess);
  EXPECT_EQ(rig.api.EventQuery(rig.event), cudaSuccess);
  EXPECT_EQ(rig.fake.writes(rig.device, kBytes).once, kBytes);
  EXPECT_EQ(rig.fake.writes(rig.device + kBytes, kBytes).never, kBytes);
}

TEST(FakeCuda, StepsPieceByPiece) {
  const ExpectRaces races;
  const Rig rig({.schedule = FakeSchedule::step, .piece_nbytes = 1000});
  rig.fill(1);
  ASSERT_EQ(rig.copy(), cudaSuccess);
  ASSERT_EQ(rig.api.EventRecord(rig.event, rig.stream), cudaSuccess);
  EXPECT_EQ(rig.fake.step(2), 2U);
  EXPECT_EQ(rig.fake.read_device(rig.device + 1999, 2),
            (std::vector{std::byte{1}, FakeCuda::kCanary}));
  EXPECT_EQ(rig.api.EventQuery(rig.event), cudaErrorNotReady);
  EXPECT_EQ(rig.fake.step_stream(rig.stream, 100), 8U);  // seven pieces and the event
  EXPECT_EQ(rig.fake.step(1), 0U);
  EXPECT_EQ(rig.api.EventQuery(rig.event), cudaSuccess);
}

TEST(FakeCuda, CopiesTheLastByteFirstWhenTold) {
  const ExpectRaces races;
  const Rig rig({.schedule = FakeSchedule::step, .piece_nbytes = 1000, .last_first = true});
  rig.fill(1);
  ASSERT_EQ(rig.copy(), cudaSuccess);
  EXPECT_EQ(rig.fake.step(1), 1U);
  EXPECT_EQ(rig.fake.read_device(rig.device + kBytes - 1, 1).front(), std::byte{1});
  EXPECT_EQ(rig.fake.read_device(rig.device, 1).front(), FakeCuda::kCanary);
}

TEST(FakeCuda, TakesTheSameRandomWayForTheSameSeed) {
  const auto queries_of = [](std::uint64_t seed) {
    const Rig rig({.schedule = FakeSchedule::random, .seed = seed, .piece_nbytes = 100});
    rig.fill(1);
    EXPECT_EQ(rig.copy(), cudaSuccess);
    EXPECT_EQ(rig.api.EventRecord(rig.event, rig.stream), cudaSuccess);
    rig.wait();
    return rig.fake.calls("EventQuery");
  };
  EXPECT_EQ(queries_of(1), queries_of(1));
  std::set<std::uint64_t> different;
  for (std::uint64_t seed = 0; seed < 20; ++seed) different.insert(queries_of(seed));
  EXPECT_GT(different.size(), 2U);
}

TEST(FakeCuda, CopiesRowsWithPitches) {
  const Rig rig;
  for (std::size_t i = 0; i < 12; ++i) rig.slot[i] = static_cast<std::byte>(i);
  ASSERT_EQ(
      rig.api.Memcpy2DAsync(rig.device, 5, rig.slot, 4, 2, 3, cudaMemcpyHostToDevice, rig.stream),
      cudaSuccess);
  ASSERT_EQ(rig.api.StreamQuery(rig.stream), cudaSuccess);
  constexpr std::byte c = FakeCuda::kCanary;
  EXPECT_THAT(rig.fake.read_device(rig.device, 12),
              ElementsAre(std::byte{0}, std::byte{1}, c, c, c, std::byte{4}, std::byte{5}, c, c, c,
                          std::byte{8}, std::byte{9}));
  EXPECT_EQ(rig.fake.writes(rig.device, 12).once, 6U);
}

// ---- events -------------------------------------------------------------------------------------

TEST(FakeCudaEvents, AreCompleteBeforeTheyAreRecorded) {
  const Rig rig;
  ASSERT_EQ(rig.copy(), cudaSuccess);
  EXPECT_EQ(rig.api.EventQuery(rig.event), cudaSuccess);
  EXPECT_TRUE(rig.fake.in_flight(rig.slot, 1));
}

TEST(FakeCudaEvents, ForgetAnEarlierRecord) {
  const Rig rig({.schedule = FakeSchedule::step});
  ASSERT_EQ(rig.api.EventRecord(rig.event, rig.stream), cudaSuccess);
  ASSERT_EQ(rig.copy(), cudaSuccess);
  ASSERT_EQ(rig.api.EventRecord(rig.event, rig.stream), cudaSuccess);
  rig.fake.step(1);  // the first record is done, the second is not
  EXPECT_EQ(rig.api.EventQuery(rig.event), cudaErrorNotReady);
  rig.fake.run_all();
  EXPECT_EQ(rig.api.EventQuery(rig.event), cudaSuccess);
}

TEST(FakeCudaEvents, AreWaitedForAsTheyWereWhenTheWaitWasQueued) {
  Rig rig({.schedule = FakeSchedule::step});
  const cudaStream_t engine = rig.fake.engine_stream(0);
  ASSERT_EQ(rig.copy(), cudaSuccess);
  ASSERT_EQ(rig.api.EventRecord(rig.event, rig.stream), cudaSuccess);
  rig.fake.engine_wait(engine, rig.event);
  ASSERT_EQ(rig.copy(kBytes), cudaSuccess);
  ASSERT_EQ(rig.api.EventRecord(rig.event, rig.stream), cudaSuccess);
  EXPECT_EQ(rig.fake.step_stream(engine, 1), 0U);
  rig.fake.step_stream(rig.stream, 2);  // the first copy and the first record
  EXPECT_EQ(rig.fake.step_stream(engine, 1), 1U);
}

TEST(FakeCudaEvents, SayNotReadyAsOftenAsTold) {
  const Rig rig({.not_ready_queries = 2});
  ASSERT_EQ(rig.copy(), cudaSuccess);
  ASSERT_EQ(rig.api.EventRecord(rig.event, rig.stream), cudaSuccess);
  EXPECT_EQ(rig.api.EventQuery(rig.event), cudaErrorNotReady);
  EXPECT_EQ(rig.api.EventQuery(rig.event), cudaErrorNotReady);
  EXPECT_EQ(rig.api.EventQuery(rig.event), cudaSuccess);
  EXPECT_EQ(rig.api.StreamQuery(rig.stream), cudaErrorNotReady);
}

TEST(FakeCudaEvents, BelongToADevice) {
  Rig rig({.devices = 2});
  const cudaEvent_t other = rig.fake.engine_event(1);
  EXPECT_EQ(rig.api.EventRecord(other, rig.stream), cudaErrorInvalidResourceHandle);
  EXPECT_THAT(first_of(rig.fake.misuse()), HasSubstr("of device 1 in stream 1 of device 0"));
}

// ---- memory -------------------------------------------------------------------------------------

TEST(FakeCudaMemoryDeathTest, OfADeviceCannotBeTouchedByTheHost) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH({ Rig().device[0] = std::byte{1}; }, "");
}

struct WrongCopy {
  const char* what;
  cudaError_t (*submit)(const Rig&);
};

class Refuses : public ::testing::TestWithParam<WrongCopy> {};
INSTANTIATE_TEST_SUITE_P(
    FakeCudaCopies, Refuses,
    ::testing::Values(WrongCopy{"its source is pageable memory",
                                [](const Rig& rig) {
                                  const std::vector<std::byte> source(100);
                                  return rig.api.MemcpyAsync(rig.device, source.data(), 100,
                                                             cudaMemcpyHostToDevice, rig.stream);
                                }},
                      WrongCopy{"its source is a mapped file",
                                [](const Rig& rig) {
                                  const int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
                                  void* const source =
                                      mmap(nullptr, 100, PROT_READ, MAP_PRIVATE, fd, 0);
                                  close(fd);
                                  const cudaError_t status = rig.api.MemcpyAsync(
                                      rig.device, source, 100, cudaMemcpyHostToDevice, rig.stream);
                                  munmap(source, 100);
                                  return status;
                                }},
                      WrongCopy{"its destination is [32767, 32769) of device memory",
                                [](const Rig& rig) {
                                  return rig.api.MemcpyAsync(rig.device + 4 * kBytes - 1, rig.slot,
                                                             2, cudaMemcpyHostToDevice, rig.stream);
                                }},
                      WrongCopy{
                          "is in device memory 3 (100 bytes of device 0), which was given back",
                          [](const Rig& rig) {
                            void* memory = nullptr;
                            rig.api.Malloc(&memory, 100);
                            rig.api.Free(memory);
                            return rig.api.MemcpyAsync(memory, rig.slot, 100,
                                                       cudaMemcpyHostToDevice, rig.stream);
                          }},
                      WrongCopy{"(100 bytes of device 1) is not of the stream's device 0",
                                [](const Rig& rig) {
                                  void* const other = rig.fake.engine_allocate(1, 100);
                                  return rig.api.MemcpyAsync(other, rig.slot, 100,
                                                             cudaMemcpyHostToDevice, rig.stream);
                                }},
                      WrongCopy{"its destination overlaps that of a copy under way",
                                [](const Rig& rig) {
                                  EXPECT_EQ(rig.copy(), cudaSuccess);
                                  return rig.copy(kBytes - 1);
                                }},
                      WrongCopy{"its kind is 2, its memory's is 1",
                                [](const Rig& rig) {
                                  return rig.api.MemcpyAsync(rig.device, rig.slot, 1,
                                                             cudaMemcpyDeviceToHost, rig.stream);
                                }},
                      WrongCopy{"its pitch is less than its width", [](const Rig& rig) {
                                  return rig.api.Memcpy2DAsync(rig.device, 4, rig.slot, 3, 4, 2,
                                                               cudaMemcpyHostToDevice, rig.stream);
                                }}));

TEST_P(Refuses, CopiesThatAreUndefined) {
  const Rig rig({.devices = 2});
  EXPECT_EQ(GetParam().submit(rig), cudaErrorInvalidValue);
  EXPECT_THAT(first_of(rig.fake.misuse()), HasSubstr(GetParam().what));
  EXPECT_EQ(rig.fake.last_error_of_this_thread(), cudaErrorInvalidValue);
}

TEST(FakeCudaMemory, ReadsPageableSourcesLateWhenTold) {
  const ExpectRaces races;
  const Rig rig({.pageable_is_error = false});
  std::vector<std::byte> source(100);
  ASSERT_EQ(rig.api.MemcpyAsync(rig.device, source.data(), 100, cudaMemcpyHostToDevice, rig.stream),
            cudaSuccess);
  source[50] = std::byte{9};
  ASSERT_EQ(rig.api.StreamQuery(rig.stream), cudaSuccess);
  EXPECT_EQ(rig.fake.read_device(rig.device + 50, 1).front(), std::byte{9});
  EXPECT_THAT(rig.fake.misuse(), ElementsAre(HasSubstr("pageable"), HasSubstr("modified")));
}

TEST(FakeCudaMemory, IsDescribedByItsAddress) {
  Rig rig({.devices = 2});
  cudaPointerAttributes found;
  ASSERT_EQ(rig.api.PointerGetAttributes(&found, rig.device + 5), cudaSuccess);
  EXPECT_EQ(found.type, cudaMemoryTypeDevice);
  EXPECT_EQ(found.hostPointer, nullptr);
  ASSERT_EQ(rig.api.PointerGetAttributes(&found, rig.slot), cudaSuccess);
  EXPECT_EQ(found.type, cudaMemoryTypeHost);
  ASSERT_EQ(rig.api.PointerGetAttributes(&found, &rig), cudaSuccess);
  EXPECT_EQ(found.type, cudaMemoryTypeUnregistered);
  void* const managed = rig.fake.engine_allocate(1, 10, FakeCuda::Memory::managed);
  ASSERT_EQ(rig.api.PointerGetAttributes(&found, managed), cudaSuccess);
  EXPECT_EQ(found.type, cudaMemoryTypeManaged);
  EXPECT_EQ(found.device, 1);
  rig.fake.engine_free(managed);
  ASSERT_EQ(rig.api.PointerGetAttributes(&found, managed), cudaSuccess);
  EXPECT_EQ(found.type, cudaMemoryTypeUnregistered);
}

TEST(FakeCudaMemory, CannotBeWrittenInFlightWhenProtected) {
  const Rig rig({.protect_sources = true});
  ASSERT_EQ(rig.copy(), cudaSuccess);
  const int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(read(fd, rig.slot, kBytes), -1);
  EXPECT_EQ(errno, EFAULT);
  ASSERT_EQ(rig.api.StreamQuery(rig.stream), cudaSuccess);
  EXPECT_EQ(read(fd, rig.slot, kBytes), static_cast<ssize_t>(kBytes));
  close(fd);
}

TEST(FakeCudaMemory, EndsWhereTheLimitsSay) {
  const Rig rig({.pinned_limit_nbytes = 2 * kBytes, .device_limit_nbytes = 5 * kBytes});
  void* memory = nullptr;
  EXPECT_EQ(rig.api.HostAlloc(&memory, kBytes + 1, 0), cudaErrorMemoryAllocation);
  std::vector<std::byte> own(kBytes + 1);
  EXPECT_EQ(rig.api.HostRegister(own.data(), own.size(), 0), cudaErrorMemoryAllocation);
  EXPECT_EQ(rig.api.Malloc(&memory, kBytes + 1), cudaErrorMemoryAllocation);
  EXPECT_EQ(rig.api.Malloc(&memory, kBytes), cudaSuccess);
  EXPECT_EQ(rig.api.Free(memory), cudaSuccess);
}

TEST(FakeCudaMemory, IsRegisteredOnceAndGivenBackOnce) {
  const Rig rig;
  std::vector<std::byte> own(100);
  ASSERT_EQ(rig.api.HostRegister(own.data(), 100, 0), cudaSuccess);
  EXPECT_EQ(rig.api.HostRegister(own.data() + 50, 50, 0), cudaErrorHostMemoryAlreadyRegistered);
  EXPECT_EQ(rig.api.HostUnregister(own.data() + 1), cudaErrorHostMemoryNotRegistered);
  EXPECT_EQ(rig.api.HostUnregister(own.data()), cudaSuccess);
  EXPECT_EQ(rig.api.HostUnregister(own.data()), cudaErrorHostMemoryNotRegistered);
  EXPECT_EQ(rig.api.FreeHost(own.data()), cudaErrorInvalidValue);
  EXPECT_EQ(rig.api.FreeHost(nullptr), cudaSuccess);
  EXPECT_EQ(rig.fake.misuse().size(), 4U);
}

TEST(FakeCudaMemory, MayBeRegisteredInOtherPartsLater) {
  const Rig rig;
  std::vector<std::byte> own(300);
  for (std::byte* const begin : {own.data(), own.data() + 100}) {
    ASSERT_EQ(rig.api.HostRegister(begin, 100, 0), cudaSuccess);
    ASSERT_EQ(rig.api.HostUnregister(begin), cudaSuccess);
  }
  ASSERT_EQ(rig.api.HostRegister(own.data(), 300, 0), cudaSuccess);
  EXPECT_EQ(rig.api.MemcpyAsync(rig.device, own.data() + 150, 100, cudaMemcpyDefault, rig.stream),
            cudaSuccess);
  EXPECT_EQ(rig.api.StreamQuery(rig.stream), cudaSuccess);
  EXPECT_EQ(rig.api.HostUnregister(own.data()), cudaSuccess);
}

TEST(FakeCudaMemory, IsReadBackIntoPinnedMemory) {
  const Rig rig;
  rig.fill(3);
  ASSERT_EQ(rig.copy(), cudaSuccess);
  ASSERT_EQ(rig.api.StreamQuery(rig.stream), cudaSuccess);
  rig.fill(0);
  ASSERT_EQ(rig.api.MemcpyAsync(rig.slot, rig.device, 10, cudaMemcpyDeviceToHost, rig.stream),
            cudaSuccess);
  ASSERT_EQ(rig.api.StreamQuery(rig.stream), cudaSuccess);
  EXPECT_EQ(rig.slot[9], std::byte{3});
  EXPECT_EQ(rig.slot[10], std::byte{0});
  EXPECT_THAT(rig.fake.misuse(), IsEmpty());
}

TEST(FakeCudaMemory, CannotBeRegisteredWhereThatIsNotSupported) {
  const Rig rig({.host_register_supported = false});
  std::vector<std::byte> own(100);
  EXPECT_EQ(rig.api.HostRegister(own.data(), 100, 0), cudaErrorNotSupported);
  EXPECT_THAT(rig.fake.misuse(), IsEmpty());
}

// ---- the ledger ---------------------------------------------------------------------------------

TEST(FakeCudaLedger, NamesEachLeak) {
  const Rig rig;
  std::vector<std::byte> own(100);
  ASSERT_EQ(rig.api.HostRegister(own.data(), 100, 0), cudaSuccess);
  ASSERT_EQ(rig.copy(), cudaSuccess);
  EXPECT_THAT(rig.fake.leaks(),
              ElementsAre("event 1 was never destroyed", "nobody waited for copy 1 in stream 1",
                          "pinned memory 1 (8192 bytes) was never given back",
                          "registered memory 3 (100 bytes) was never given back",
                          "stream 1 was never destroyed"));
}

TEST(FakeCudaLedger, NotesWhatIsDestroyedWhileItWorks) {
  const Rig rig;
  ASSERT_EQ(rig.copy(), cudaSuccess);
  ASSERT_EQ(rig.api.EventRecord(rig.event, rig.stream), cudaSuccess);
  EXPECT_EQ(rig.api.EventDestroy(rig.event), cudaSuccess);
  EXPECT_EQ(rig.api.StreamDestroy(rig.stream), cudaSuccess);
  EXPECT_THAT(rig.fake.notes(),
              ElementsAre("event 1 was destroyed while what it recorded is under way",
                          "stream 1 was destroyed with copy 1 under way"));
  EXPECT_EQ(rig.api.StreamQuery(rig.stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(rig.api.EventDestroy(rig.event), cudaErrorInvalidResourceHandle);
}

TEST_P(EachSchedule, NoticesMemoryGivenBackInFlight) {
  const ExpectRaces races;
  const Rig rig({.schedule = GetParam()});
  std::vector<std::byte> own(100);
  ASSERT_EQ(rig.api.HostRegister(own.data(), 100, 0), cudaSuccess);
  ASSERT_EQ(rig.api.MemcpyAsync(rig.device, own.data(), 100, cudaMemcpyDefault, rig.stream),
            cudaSuccess);
  EXPECT_EQ(rig.api.HostUnregister(own.data()), cudaSuccess);
  ASSERT_EQ(rig.copy(kBytes), cudaSuccess);
  EXPECT_EQ(rig.api.FreeHost(rig.slot), cudaSuccess);
  EXPECT_THAT(rig.fake.misuse(), ElementsAre(HasSubstr("cudaHostUnregister of registered memory 3"),
                                             HasSubstr("cudaFreeHost of pinned memory 1")));
}

TEST(FakeCudaLedger, NoticesMemoryGivenBackThatTheEngineReads) {
  const Rig rig;
  void* memory = nullptr;
  ASSERT_EQ(rig.api.Malloc(&memory, kBytes), cudaSuccess);
  ASSERT_EQ(rig.api.MemcpyAsync(memory, rig.slot, kBytes, cudaMemcpyHostToDevice, rig.stream),
            cudaSuccess);
  ASSERT_EQ(rig.api.StreamQuery(rig.stream), cudaSuccess);
  rig.fake.engine_read(rig.fake.engine_stream(0), memory, kBytes);
  EXPECT_EQ(rig.api.Free(memory), cudaSuccess);
  EXPECT_THAT(rig.fake.misuse(), ElementsAre(HasSubstr("while the engine's read 2 in stream 2")));
}

TEST(FakeCudaLedger, NamesTheLegacyStream) {
  const Rig rig;
  EXPECT_EQ(rig.api.MemcpyAsync(rig.device, rig.slot, 1, cudaMemcpyHostToDevice, nullptr),
            cudaErrorInvalidResourceHandle);
  EXPECT_EQ(rig.api.StreamQuery(cudaStreamPerThread), cudaErrorInvalidResourceHandle);
  EXPECT_THAT(rig.fake.misuse(), ElementsAre(HasSubstr("legacy"), HasSubstr("legacy")));
}

TEST(FakeCudaLedger, WantsEachThreadToSayWhichDevice) {
  const Rig rig({.devices = 2});
  std::thread([&] { static_cast<void>(rig.api.StreamQuery(rig.stream)); }).join();
  EXPECT_THAT(rig.fake.misuse(), ElementsAre(HasSubstr("never called cudaSetDevice")));
}

TEST(FakeCudaLedger, WantsNoCallsWhileCudaUnloads) {
  Rig rig;
  rig.fake.unload();
  EXPECT_EQ(rig.api.FreeHost(rig.slot), cudaErrorCudartUnloading);
  EXPECT_EQ(rig.api.GetLastError(), cudaErrorCudartUnloading);
  EXPECT_THAT(rig.fake.ledger(), ElementsAre("cudaFreeHost was called while CUDA unloads",
                                             "cudaGetLastError was called while CUDA unloads"));
}

TEST(FakeCudaLedger, CountsHowOftenEachByteWasWritten) {
  const Rig rig;
  ASSERT_EQ(rig.copy(0), cudaSuccess);
  ASSERT_EQ(rig.api.StreamQuery(rig.stream), cudaSuccess);
  ASSERT_EQ(rig.copy(100), cudaSuccess);
  ASSERT_EQ(rig.api.StreamQuery(rig.stream), cudaSuccess);
  const FakeCuda::Writes found = rig.fake.writes(rig.device, 2 * kBytes);
  EXPECT_EQ(found.once, 200U);
  EXPECT_EQ(found.more, kBytes - 100);
  EXPECT_EQ(found.never, kBytes - 100);
}

TEST(FakeCudaLedger, NamesWhereAModifiedSourceWasSubmitted) {
  const ExpectRaces races;
  const Rig rig({.backtraces = true});
  ASSERT_EQ(rig.copy(), cudaSuccess);
  rig.fill(7);
  ASSERT_EQ(rig.api.StreamQuery(rig.stream), cudaSuccess);
  EXPECT_THAT(first_of(rig.fake.misuse()), HasSubstr("submitted at"));
}

TEST(FakeCudaLedger, TellsWritersThatAskWhatIsInFlight) {
  Rig rig;
  rig.fake.about_to_write(rig.slot, kBytes, "the reader");
  ASSERT_EQ(rig.copy(), cudaSuccess);
  rig.fake.about_to_write(rig.slot + kBytes - 1, 1, "the reader");
  EXPECT_THAT(rig.fake.misuse(),
              ElementsAre("the reader writes 1 bytes that copy 1 in stream 1 may still use"));
}

// ---- errors -------------------------------------------------------------------------------------

TEST(FakeCudaErrors, StayWithTheirThreadUntilTaken) {
  const Rig rig({.not_ready_queries = 1});
  ASSERT_EQ(rig.api.EventRecord(rig.event, rig.stream), cudaSuccess);
  EXPECT_EQ(rig.api.EventQuery(rig.event), cudaErrorNotReady);
  std::thread([&] { EXPECT_EQ(rig.api.PeekAtLastError(), cudaSuccess); }).join();
  EXPECT_EQ(rig.api.EventQuery(rig.event), cudaSuccess);
  EXPECT_EQ(rig.api.PeekAtLastError(), cudaErrorNotReady);
  EXPECT_EQ(rig.api.GetLastError(), cudaErrorNotReady);
  EXPECT_EQ(rig.api.GetLastError(), cudaSuccess);
  EXPECT_STREQ(rig.api.GetErrorName(cudaErrorNotReady), "cudaErrorNotReady");
  EXPECT_STREQ(rig.api.GetErrorString(cudaErrorNotReady), "device not ready");
}

TEST(FakeCudaErrors, ComeAtTheNthCallOnce) {
  Rig rig;
  rig.fake.fail({.call = "MemcpyAsync", .nth = 2, .code = cudaErrorInvalidDevice});
  EXPECT_EQ(rig.copy(0), cudaSuccess);
  EXPECT_FALSE(rig.fake.injection_fired());
  EXPECT_EQ(rig.copy(kBytes), cudaErrorInvalidDevice);
  EXPECT_TRUE(rig.fake.injection_fired());
  EXPECT_EQ(rig.copy(kBytes), cudaSuccess);
  EXPECT_EQ(rig.fake.calls("MemcpyAsync"), 3U);
}

TEST(FakeCudaErrors, ComeForEverWhenTold) {
  Rig rig;
  rig.fake.fail({.nth = 2, .code = cudaErrorInvalidDevice, .forever = true});
  EXPECT_EQ(rig.copy(0), cudaSuccess);
  EXPECT_EQ(rig.copy(kBytes), cudaErrorInvalidDevice);
  EXPECT_EQ(rig.api.StreamQuery(rig.stream), cudaErrorInvalidDevice);
  rig.fake.heal();
  EXPECT_EQ(rig.api.StreamQuery(rig.stream), cudaSuccess);
}

TEST(FakeCudaErrors, ComeAtCompletion) {
  Rig rig;
  rig.fill(1);
  rig.fake.fail({.fault = Injection::Fault::at_completion, .call = "MemcpyAsync"});
  EXPECT_EQ(rig.copy(), cudaSuccess);
  EXPECT_EQ(rig.api.EventRecord(rig.event, rig.stream), cudaSuccess);
  EXPECT_EQ(rig.api.EventQuery(rig.event), cudaErrorUnknown);
  EXPECT_TRUE(rig.fake.in_flight(rig.slot, 1));
  EXPECT_EQ(rig.api.StreamQuery(rig.stream), cudaSuccess);  // the stream could be drained
  EXPECT_FALSE(rig.fake.in_flight(rig.slot, 1));
  EXPECT_EQ(rig.fake.writes(rig.device, kBytes).never, kBytes);
}

TEST(FakeCudaErrors, ThatStickFailAllThatFollows) {
  Rig rig;
  rig.fake.fail({.fault = Injection::Fault::sticky, .call = "EventRecord"});
  EXPECT_EQ(rig.copy(), cudaSuccess);
  EXPECT_EQ(rig.api.EventRecord(rig.event, rig.stream), cudaErrorIllegalAddress);
  EXPECT_EQ(rig.api.StreamQuery(rig.stream), cudaErrorIllegalAddress);
  EXPECT_EQ(rig.api.EventDestroy(rig.event), cudaErrorIllegalAddress);
  EXPECT_EQ(rig.api.GetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(rig.api.GetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(rig.fake.writes(rig.device, kBytes).never, kBytes);
  EXPECT_THAT(rig.fake.misuse(), IsEmpty());
}

TEST(FakeCudaErrors, OfFreeingAreNoLeaks) {
  Rig rig;
  rig.fake.fail({.code = cudaErrorUnknown, .forever = true});
  EXPECT_EQ(rig.api.FreeHost(rig.slot), cudaErrorUnknown);
  EXPECT_EQ(rig.api.EventDestroy(rig.event), cudaErrorUnknown);
  EXPECT_EQ(rig.api.StreamDestroy(rig.stream), cudaErrorUnknown);
  EXPECT_THAT(rig.fake.ledger(), IsEmpty());
}

TEST(FakeCudaErrors, MayBeThatNothingBecomesReady) {
  for (const char* const call : {"MemcpyAsync", "EventRecord", "EventQuery"}) {
    Rig rig;
    rig.fake.fail({.fault = Injection::Fault::not_ready, .call = call});
    EXPECT_EQ(rig.copy(), cudaSuccess);
    EXPECT_EQ(rig.api.EventRecord(rig.event, rig.stream), cudaSuccess);
    for (int i = 0; i < 100; ++i) {
      EXPECT_EQ(rig.api.EventQuery(rig.event), cudaErrorNotReady) << call;
    }
  }
}

TEST(FakeCudaErrors, AreReachedOneAfterTheOther) {
  std::uint64_t nth = 0;
  bool fired = true;
  while (fired) {
    FakeCuda fake;
    fake.fail({.nth = ++nth});
    void* memory = nullptr;
    if (FakeCuda::api().HostAlloc(&memory, 10, 0) == cudaSuccess) {
      static_cast<void>(FakeCuda::api().FreeHost(memory));
    }
    fired = fake.injection_fired();
    EXPECT_THAT(fake.ledger(), IsEmpty());
  }
  EXPECT_EQ(nth, 3U);
}

TEST(FakeCudaErrors, SayThatThereIsNoDevice) {
  const FakeCuda fake({.devices = 0});
  int count = 0;
  EXPECT_EQ(FakeCuda::api().GetDeviceCount(&count), cudaErrorNoDevice);
}

// ---- the virtual clock --------------------------------------------------------------------------

TEST(FakeCudaClock, CompletesCopiesAtTheSpeedOfTheLink) {
  std::uint64_t now = 100;
  const Rig rig({.move_bytes = false,
                 .now_ns = [&now] { return now; },
                 .sleep_ns = [&now](std::uint64_t ns) { now += ns; },
                 .submit_ns = 5,
                 .copy_latency_ns = 7,
                 .link_bytes_per_ns = 2});
  ASSERT_EQ(rig.copy(0), cudaSuccess);       // submitted at 105, through the link at 105 + 4096
  ASSERT_EQ(rig.copy(kBytes), cudaSuccess);  // then waits for the link
  ASSERT_EQ(rig.api.EventRecord(rig.event, rig.stream), cudaSuccess);
  EXPECT_EQ(now, 110U);
  now = 105 + 4096 + 4096 + 7 - 1;
  EXPECT_EQ(rig.api.EventQuery(rig.event), cudaErrorNotReady);
  ++now;
  EXPECT_EQ(rig.api.EventQuery(rig.event), cudaSuccess);
}

}  // namespace
}  // namespace flatbed
