// CudaDevice::wait(): CUDA wakes who waits, at most one function is launched for a ticket, and
// where there is none the thread asks. And where the device is: its NUMA node and its link.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cuda/cuda_device.hpp"
#include "cuda/pci_numa.hpp"
#include "support/expect_error.hpp"
#include "support/fake_cuda.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using namespace std::chrono_literals;
using Fault = Injection::Fault;
using test::TempDir;
using testing::IsEmpty;

constexpr std::size_t kNbytes = 4096;

// A device with something to copy.
struct Rig {
  explicit Rig(const FakeCudaOptions& options) : fake(options) { make_device({}); }
  ~Rig() {
    device->unstage(staged, kNbytes);
    device.reset();
    EXPECT_THAT(fake.ledger(), IsEmpty());
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;
  void make_device(const CudaDeviceOptions& options) {
    device = cuda::make_cuda_device(FakeCuda::api(), 0, options, {.wake_timeout = 20s}).value();
    staged = device->stage(kNbytes).value();
    EXPECT_OK(device->enter_thread());
  }
  Ticket copy() {
    const CopyPiece piece{staged, memory, kNbytes, 1, 0, 0};
    return device->copy({&piece, 1}).value();
  }
  void expect_launched(std::uint64_t count) const {
    while (fake.calls("LaunchHostFunc") < count) std::this_thread::yield();
  }

  FakeCuda fake;
  std::byte* const memory = static_cast<std::byte*>(fake.engine_allocate(0, kNbytes));
  std::unique_ptr<Device> device;
  std::byte* staged = nullptr;
};

TEST(CudaDeviceWait, EndsWhenCudaCalls) {
  Rig rig({.schedule = FakeSchedule::step});
  const Ticket ticket = rig.copy();
  std::thread waiting([&] { EXPECT_TRUE(rig.device->wait(ticket, 1h).value()); });
  rig.expect_launched(1);
  const std::uint64_t queries = rig.fake.calls("EventQuery");
  std::this_thread::sleep_for(5ms);
  EXPECT_EQ(rig.fake.calls("EventQuery"), queries);  // nobody asks meanwhile
  rig.fake.run_all();
  waiting.join();
  EXPECT_ERROR(rig.device->wait(ticket, 1h), invalid_argument);
  EXPECT_EQ(rig.fake.calls("LaunchHostFunc"), 1u);
}

TEST(CudaDeviceWait, DoesNotHoldUpTheNextCopies) {
  Rig rig({.schedule = FakeSchedule::step});
  const cudaStream_t stream = rig.fake.engine_stream(0);
  rig.device->unstage(rig.staged, kNbytes);
  rig.make_device({.stream = EngineStream::created(stream)});
  rig.fake.run_all();  // with which the device made sure of the stream
  const Ticket first = rig.copy();
  EXPECT_FALSE(rig.device->wait(first, 1ms).value());
  const Ticket second = rig.device->fence().value();
  // A copy and two records: the function is in another stream.
  EXPECT_EQ(rig.fake.step_stream(stream, 10), 3u);
  EXPECT_TRUE(rig.device->wait(second, 0ms).value());
  EXPECT_TRUE(rig.device->wait(first, 0ms).value());
  rig.fake.run_all();
}

TEST(CudaDeviceWait, LaunchesOneFunctionForATicket) {
  Rig rig({.schedule = FakeSchedule::step});
  Ticket ticket = rig.copy();
  for (const auto most : {1ms, 0ms, -1ms, 1ms})
    EXPECT_FALSE(rig.device->wait(ticket, most).value());
  EXPECT_EQ(rig.fake.calls("LaunchHostFunc"), 1u);
  rig.fake.run_all();
  EXPECT_TRUE(rig.device->wait(ticket, 1h).value());
  ticket = rig.copy();  // with the event of the first
  EXPECT_FALSE(rig.device->wait(ticket, 1ms).value());
  EXPECT_EQ(rig.fake.calls("LaunchHostFunc"), 2u);
  rig.fake.run_all();
  EXPECT_TRUE(rig.device->wait(ticket, 1h).value());
}

TEST(CudaDeviceWait, IsForEachOfManyThreads) {
  Rig rig({.schedule = FakeSchedule::threads});
  std::vector<std::thread> threads;
  std::atomic<int> done = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      EXPECT_OK(rig.device->enter_thread());
      for (int turn = 0; turn < 50; ++turn) {
        const Ticket one = rig.device->fence().value();
        const Ticket two = rig.device->fence().value();
        EXPECT_TRUE(rig.device->wait(two, 1h).value());
        EXPECT_TRUE(rig.device->wait(one, 1h).value());
        ++done;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(done, 200);
}

TEST(CudaDeviceWait, AsksWhereCudaCallsNobody) {
  for (const auto& [call, nth] :
       {std::pair("StreamCreateWithFlags", 1), {"StreamWaitEvent", 1}, {"LaunchHostFunc", 1}}) {
    SCOPED_TRACE(call);
    Rig rig({.schedule = FakeSchedule::step});
    rig.fake.fail({.call = call, .nth = static_cast<std::uint64_t>(nth), .forever = true});
    const Ticket ticket = rig.copy();
    EXPECT_FALSE(rig.device->wait(ticket, 1ms).value());
    EXPECT_TRUE(rig.fake.injection_fired());
    std::thread other([&] { rig.fake.run_all(); });
    EXPECT_TRUE(rig.device->wait(ticket, 1h).value());
    other.join();
    EXPECT_EQ(rig.fake.last_error_of_this_thread(), cudaSuccess);
  }
}

TEST(CudaDeviceWait, TellsOfErrorsAsDoneDoes) {
  Rig rig({});
  rig.fake.fail({.fault = Fault::at_completion, .call = "MemcpyAsync"});
  EXPECT_ERROR(rig.device->wait(rig.copy(), 1h), device_error);
  EXPECT_ERROR(rig.device->wait(12345, 1h), invalid_argument);
  EXPECT_TRUE(rig.device->wait(rig.device->fence().value(), 1h).value());
}

// What CUDA will call must not be freed before.
TEST(CudaDeviceWait, EndsWithTheFunctionsThatAreUnderWay) {
  Rig rig({.schedule = FakeSchedule::step});
  const Ticket ticket = rig.copy();
  EXPECT_FALSE(rig.device->wait(ticket, 1ms).value());
  rig.expect_launched(1);
  EXPECT_EQ(rig.fake.step(2), 2u);  // the copy and its record
  EXPECT_TRUE(rig.device->wait(ticket, 0ms).value());
  rig.device->unstage(rig.staged, kNbytes);
  std::thread later([&] {
    std::this_thread::sleep_for(10ms);
    rig.fake.run_all();
  });
  rig.device.reset();
  EXPECT_EQ(rig.fake.step(10), 0u);  // nothing is left
  later.join();
  rig.make_device({});
}

// ---- where the device is ------------------------------------------------------------------------

TEST(CudaDevicePlace, IsReadFromSysfs) {
  const TempDir sysfs;
  const std::filesystem::path folder = sysfs / "bus/pci/devices/0000:a0:00.0";
  std::filesystem::create_directories(folder);
  const auto place = [&] {
    const FakeCuda fake;
    const auto device =
        cuda::make_cuda_device(FakeCuda::api(), 0, {}, {.sysfs = sysfs.path().native()}).value();
    return std::pair(device->numa_node(), device->link_bytes_per_second());
  };
  EXPECT_EQ(place(), std::pair(-1, std::uint64_t{0}));
  test::write_file(folder / "numa_node", "1\n");
  test::write_file(folder / "max_link_speed", "32.0 GT/s PCIe\n");
  test::write_file(folder / "max_link_width", "16\n");
  EXPECT_EQ(place(), std::pair(1, std::uint64_t{56'000'000'000}));
}

TEST(CudaDevicePlace, IsUnknownWhereSysfsIsNotUnderstood) {
  const TempDir sysfs;
  const std::filesystem::path folder = sysfs / "bus/pci/devices/0000:0c:00.0";
  std::filesystem::create_directories(folder);
  const auto link = [&](std::string_view speed, std::string_view width) {
    test::write_file(folder / "max_link_speed", speed);
    test::write_file(folder / "max_link_width", width);
    return cuda::link_of_pci(sysfs.path().native(), "0000:0C:00.0");
  };
  EXPECT_EQ(link("16.0 GT/s PCIe\n", "16\n"), 28'000'000'000u);
  EXPECT_EQ(link("2.5 GT/s PCIe\n", "1\n"), 273'437'500u);
  EXPECT_EQ(link("8 GT/s\n", "4"), 3'500'000'000u);
  for (const std::string_view speed :
       {"", "Unknown\n", " GT/s", "x GT/s", "-1.0 GT/s", "9999999.0 GT/s", "32"})
    EXPECT_EQ(link(speed, "16\n"), 0u) << speed;
  for (const std::string_view width : {"", "x\n", "-1\n", "255000\n"})
    EXPECT_EQ(link("32.0 GT/s PCIe\n", width), 0u) << width;
}

}  // namespace
}  // namespace flatbed
