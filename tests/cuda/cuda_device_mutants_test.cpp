// CudaDevice: cases that only mutation testing (tests/mutation) showed to be untested.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cuda/cuda_device.hpp"
#include "support/expect_error.hpp"
#include "support/fake_cuda.hpp"
#include "support/sanitizers.hpp"

namespace flatbed {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// So large that malloc() gives it back to the system at once, in two segments.
constexpr std::size_t kLarge = std::size_t{64} << 20;
const cuda::CudaDeviceLimits kTwoSegments{.segment_nbytes = kLarge / 2};

// Whether the process has memory there.
bool is_mapped(const std::byte* at) {
  std::array<int, 2> ends = {};
  if (::pipe(ends.data()) != 0) return false;
  const bool is = ::write(ends[1], at, 1) == 1;
  ::close(ends[0]);
  ::close(ends[1]);
  return is;
}

// The address sanitizer keeps freed memory.
constexpr bool kFreedIsUnmapped = !FLATBED_ADDRESS_SANITIZER;

// A device under a table that remembers what memory was to be registered first, and how much last.
struct Watched {
  static inline std::byte* memory = nullptr;
  static inline std::size_t last_nbytes = 0;
  cuda::CudaApi api = FakeCuda::api();
  std::unique_ptr<Device> device;

  Watched() {
    memory = nullptr;
    api.HostRegister = [](void* at, size_t nbytes, unsigned int flags) {
      if (memory == nullptr) memory = static_cast<std::byte*>(at);
      last_nbytes = nbytes;
      return FakeCuda::api().HostRegister(at, nbytes, flags);
    };
    device = cuda::make_cuda_device(api, 0, {}, kTwoSegments).value();
  }
};

TEST(CudaDeviceStagedMemory, GoesBackToTheHostWithItsLastSegment) {
  FakeCuda fake;
  const Watched watched;
  std::byte* const memory = watched.device->stage(kLarge).value();
  EXPECT_TRUE(is_mapped(memory));
  watched.device->unstage(memory, kLarge);
  EXPECT_EQ(is_mapped(memory), !kFreedIsUnmapped);
  EXPECT_THAT(fake.misuse(), IsEmpty());
}

TEST(CudaDeviceStagedMemory, GoesBackToTheHostWhereASegmentCannotBeRegistered) {
  for (const cudaError_t code : {cudaErrorMemoryAllocation, cudaErrorNotSupported}) {
    FakeCuda fake;
    const Watched watched;
    fake.fail({.call = "HostRegister", .nth = 2, .code = code});
    const Result<std::byte*> staged = watched.device->stage(kLarge);
    ASSERT_NE(Watched::memory, nullptr);
    EXPECT_EQ(is_mapped(Watched::memory), !kFreedIsUnmapped);
    if (staged) watched.device->unstage(*staged, kLarge);
    EXPECT_THAT(fake.misuse(), IsEmpty());
  }
}

TEST(CudaDeviceStagedMemory, StaysWhereCudaDoesNotLetGoOfIt) {
  for (const std::uint64_t nth : {1U, 2U}) {
    FakeCuda fake;
    const Watched watched;
    std::byte* const memory = watched.device->stage(kLarge).value();
    fake.fail({.call = "HostUnregister", .nth = nth});
    watched.device->unstage(memory, kLarge);
    EXPECT_TRUE(is_mapped(memory));
  }
}

TEST(CudaDeviceStagedMemory, StaysWhereCudaDoesNotLetGoOfTheSegmentsBeforeOneThatFailed) {
  FakeCuda fake;
  const Watched watched;
  fake.fail({.call = "HostRegister", .nth = 2, .code = cudaErrorMemoryAllocation});
  fake.fail({.call = "HostUnregister"});
  EXPECT_ERROR(watched.device->stage(kLarge), resource_exhausted);
  ASSERT_NE(Watched::memory, nullptr);
  EXPECT_TRUE(is_mapped(Watched::memory));
}

// The bytes of this process that fork() does not copy.
std::size_t forkless_nbytes() {
  std::ifstream smaps("/proc/self/smaps");
  std::size_t found = 0;
  std::size_t kibibytes = 0;
  for (std::string line; std::getline(smaps, line);) {
    if (line.starts_with("Size:")) kibibytes = std::stoul(line.substr(5));
    if (line.starts_with("VmFlags:") && (line + " ").find(" dc ") != std::string::npos) {
      found += kibibytes * 1024;
    }
  }
  return found;
}

// Else a write after fork() may go to a copy of the page, of which the GPU would not know.
TEST(CudaDeviceStagedMemory, IsNotCopiedByAFork) {
  FakeCuda fake;
  const Watched watched;
  const std::size_t before = forkless_nbytes();
  std::byte* const memory = watched.device->stage(kLarge).value();
  EXPECT_EQ(forkless_nbytes(), before + kLarge);
  std::byte* const odd = watched.device->stage(1).value();
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  EXPECT_EQ(forkless_nbytes(), before + kLarge + page);
  EXPECT_EQ(Watched::last_nbytes, page);  // which is nobody else's
  watched.device->unstage(odd, 1);
  watched.device->unstage(memory, kLarge);
  EXPECT_EQ(forkless_nbytes(), before);
  fake.fail({.call = "HostRegister", .nth = 2, .code = cudaErrorMemoryAllocation});
  EXPECT_ERROR(watched.device->stage(kLarge), resource_exhausted);
  EXPECT_EQ(forkless_nbytes(), before);
}

// The C library keeps the pages of a small block for others, whose bytes a child then needs. Those
// of a mapping, as above, are gone either way.
TEST(CudaDeviceStagedMemory, IsCopiedByAForkAgainOnceItIsGivenBack) {
#if FLATBED_THREAD_SANITIZER
  GTEST_SKIP() << "the thread sanitizer has malloc() in place of the C library's";
#endif
  constexpr std::size_t kSmall = 1 << 20;
  FakeCuda fake;
  const Watched watched;
  ::mallopt(M_MMAP_MAX, 0);
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
  const std::size_t before = forkless_nbytes();
  std::byte* const memory = watched.device->stage(kSmall).value();
  EXPECT_EQ(forkless_nbytes(), before + kSmall);
  watched.device->unstage(memory, kSmall);
  EXPECT_TRUE(is_mapped(memory));
  EXPECT_EQ(forkless_nbytes(), before);
  ::mallopt(M_MMAP_MAX, 65'536);
  ::mallopt(M_TRIM_THRESHOLD, 128 << 10);
}

// On another GPU than its own it allocates nothing. Its own thread stays on its GPU.
TEST(CudaDeviceCurrent, CannotBeMadeCurrentAndSaysSo) {
  FakeCuda fake({.devices = 2});
  const std::unique_ptr<Device> device = cuda::make_cuda_device(FakeCuda::api(), 1, {}).value();
  const DeviceBuffer memory = DeviceBuffer::allocate(*device, 4096).value();
  std::byte* const staged = device->stage(4096).value();
  const CopyPiece piece{.from = staged, .to = memory.data(), .nbytes = 4096};
  EXPECT_OK(device->enter_thread());
  const Ticket ticket = device->copy({&piece, 1}).value();
  std::vector<std::byte> out(4096);
  fake.fail({.call = "SetDevice", .forever = true});
  EXPECT_ERROR(cuda::make_cuda_device(FakeCuda::api(), 1, {}), device_error);
  EXPECT_ERROR(device->enter_thread(), device_error);
  EXPECT_ERROR(device->stage(4096), device_error);
  EXPECT_ERROR(device->memory()->read_back(memory.data(), out), device_error);
  fake.heal();
  EXPECT_OK(device->enter_thread());
  EXPECT_TRUE(device->done(ticket).value());
  EXPECT_OK(device->memory()->read_back(memory.data(), out));
  device->unstage(staged, 4096);
  EXPECT_THAT(fake.misuse(), IsEmpty());
}

// It does not wait long for what it reads back.
std::unique_ptr<Device> impatient_device() {
  return cuda::make_cuda_device(FakeCuda::api(), 0, {},
                                {.read_back_timeout = std::chrono::milliseconds(20)})
      .value();
}

// After its time it does not wait for as long again.
TEST(CudaDeviceReadBackTime, IsOverOnce) {
  FakeCuda fake;
  const std::unique_ptr<Device> device = impatient_device();
  const DeviceBuffer memory = DeviceBuffer::allocate(*device, 4096).value();
  std::vector<std::byte> out(4096);
  fake.fail({.fault = Injection::Fault::not_ready, .call = "EventRecord", .forever = true});
  EXPECT_ERROR(device->memory()->read_back(memory.data(), out), device_timeout);
  EXPECT_EQ(fake.calls("EventRecord"), 1U);
}

TEST(CudaDeviceOpen, SaysWhatFailedInsteadOfCountingNone) {
  FakeCuda fake;
  fake.fail({.call = "GetDeviceCount"});
  const auto device = cuda::make_cuda_device(FakeCuda::api(), 0, {});
  EXPECT_ERROR(device, device_error);
  EXPECT_THAT(device.error().message, HasSubstr("cudaGetDeviceCount"));
}

// Loads would write to it as if it were the host's.
TEST(CudaDeviceOfHostPages, TakesNoMemoryOfWhichCudaDoesNotTell) {
  FakeCuda fake({.uses_host_pages = true});
  const std::unique_ptr<Device> device = cuda::make_cuda_device(FakeCuda::api(), 0, {}).value();
  std::array<std::byte, 100> memory = {};
  EXPECT_TRUE(device->host_can_write(memory.data(), memory.size()));
  for (const std::uint64_t nth : {1U, 2U}) {
    fake.fail({.call = "PointerGetAttributes", .nth = nth, .code = cudaErrorIllegalAddress});
    EXPECT_FALSE(device->host_can_write(memory.data(), memory.size()));
    fake.heal();
  }
}

// The engine's thread has a default stream of each device.
TEST(CudaDeviceOrder, SaysWhatMustBeCurrentOnlyOfStreamsOfTheThread) {
  FakeCuda fake;
  fake.engine_device(0);
  const auto message_of = [&](const EngineStream& stream) {
    const std::unique_ptr<Device> device =
        cuda::make_cuda_device(FakeCuda::api(), 0, {.order_after = stream}).value();
    fake.fail({.call = "StreamIsCapturing"});
    const Result<void> ordered = device->order_after_engine();
    EXPECT_ERROR(ordered, device_error);
    fake.heal();
    return ordered ? "" : ordered.error().message;
  };
  EXPECT_THAT(message_of(EngineStream::per_thread()), HasSubstr("must be current"));
  EXPECT_THAT(message_of(EngineStream::created(fake.engine_stream(0))),
              Not(HasSubstr("must be current")));
}

TEST(CudaDeviceOrder, UsesItsEventAgain) {
  FakeCuda fake;
  const std::unique_ptr<Device> device =
      cuda::make_cuda_device(FakeCuda::api(), 0,
                             {.order_after = EngineStream::created(fake.engine_stream(0))})
          .value();
  EXPECT_OK(device->order_after_engine());
  const std::uint64_t events = fake.calls("EventCreateWithFlags");
  for (int i = 0; i < 3; ++i) EXPECT_OK(device->order_after_engine());
  EXPECT_EQ(fake.calls("EventCreateWithFlags"), events);
}

// What woke a thread for one ticket wakes another for the next.
TEST(CudaDeviceWakeUps, AreUsedAgainWhenTheirTicketsHaveEnded) {
  static std::set<void*> wakes;
  wakes.clear();
  FakeCuda fake({.schedule = FakeSchedule::step});
  cuda::CudaApi api = FakeCuda::api();
  api.LaunchHostFunc = [](cudaStream_t stream, cudaHostFn_t function, void* wake) {
    wakes.insert(wake);
    return FakeCuda::api().LaunchHostFunc(stream, function, wake);
  };
  const std::unique_ptr<Device> device =
      cuda::make_cuda_device(api, 0, {}, {.wake_timeout = std::chrono::seconds(20)}).value();
  EXPECT_OK(device->enter_thread());
  for (int i = 0; i < 10; ++i) {
    const Ticket ticket = device->fence().value();
    EXPECT_FALSE(device->wait(ticket, std::chrono::milliseconds(1)).value());
    fake.run_all();
    if (i % 2 == 0) {
      EXPECT_TRUE(device->wait(ticket, std::chrono::hours(1)).value());
    } else {
      device->forget(ticket);
    }
  }
  EXPECT_EQ(wakes.size(), 1U);
}

TEST(CudaDeviceWakeUps, AreNotAskedForWhereThereIsNoEvent) {
  FakeCuda fake({.schedule = FakeSchedule::step});
  const std::unique_ptr<Device> device =
      cuda::make_cuda_device(FakeCuda::api(), 0, {}, {.wake_timeout = std::chrono::seconds(20)})
          .value();
  EXPECT_OK(device->enter_thread());
  std::byte* const staged = device->stage(4096).value();
  const CopyPiece piece{
      .from = staged, .to = static_cast<std::byte*>(fake.engine_allocate(0, 4096)), .nbytes = 4096};
  device->forget(device->copy({&piece, 1}).value());
  fake.fail({.call = "EventRecord", .code = cudaErrorMemoryAllocation, .forever = true});
  const Ticket fence = device->fence().value();
  EXPECT_FALSE(device->wait(fence, std::chrono::milliseconds(1)).value());
  EXPECT_EQ(fake.calls("StreamWaitEvent"), 0U);
  fake.run_all();
  EXPECT_TRUE(device->wait(fence, std::chrono::hours(1)).value());
  device->unstage(staged, 4096);
}

// The error says nothing of the copy, which may write to the memory yet.
TEST(CudaDeviceReadBackMemory, StaysWithACopyThatDoesNotEndAfterAnError) {
  FakeCuda fake;
  const std::unique_ptr<Device> device = impatient_device();
  const DeviceBuffer memory = DeviceBuffer::allocate(*device, 4096).value();
  std::vector<std::byte> out(4096);
  fake.fail({.fault = Injection::Fault::not_ready, .call = "MemcpyAsync"});
  fake.fail({.call = "EventQuery", .code = cudaErrorIllegalAddress});
  EXPECT_ERROR(device->memory()->read_back(memory.data(), out), device_error);
  const std::uint64_t registered = fake.calls("HostRegister");
  EXPECT_EQ(fake.calls("HostUnregister"), 0U);
  fake.heal();
  fake.run_all();
  EXPECT_OK(device->memory()->read_back(memory.data(), out));
  EXPECT_EQ(fake.calls("HostRegister"), registered + 1);
  EXPECT_THAT(fake.misuse(), IsEmpty());
}

}  // namespace
}  // namespace flatbed
