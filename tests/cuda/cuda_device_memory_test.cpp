// CudaDevice's memory against the fake runtime: staging, its segments and its fallback, device
// memory, the check of destinations, reading back; and the list of devices.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "cuda/cuda_device.hpp"
#include "cuda/pci_numa.hpp"
#include "support/expect_error.hpp"
#include "support/fake_cuda.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::TempDir;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr std::size_t kMiB = std::size_t{1} << 20;

std::unique_ptr<Device> make(int ordinal, const cuda::CudaDeviceLimits& limits = {}) {
  return cuda::make_cuda_device(FakeCuda::api(), ordinal, {}, limits).value();
}

// Copies all of it to the GPU and looks whether it arrived.
void expect_copies_from(const FakeCuda& fake, Device& device, std::byte* memory,
                        std::size_t nbytes) {
  std::memset(memory, 0x5A, nbytes);
  const DeviceBuffer buffer = DeviceBuffer::allocate(device, nbytes).value();
  const CopyPiece piece{.from = memory, .to = buffer.data(), .nbytes = nbytes};
  EXPECT_OK(device.enter_thread());
  EXPECT_TRUE(device.done(device.copy({&piece, 1}).value()).value());
  EXPECT_EQ(fake.read_device(buffer.data(), nbytes),
            std::vector<std::byte>(nbytes, std::byte{0x5A}));
}

TEST(CudaDeviceStaging, IsPageLockedAndAligned) {
  FakeCuda fake;
  {
    const auto device = make(0);
    std::byte* const memory = device->stage(3 * kMiB).value();
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % (2 * kMiB), 0U);
    EXPECT_LE(fake.calls("HostRegister"), 2U);  // two, if 256 MiB end within it
    expect_copies_from(fake, *device, memory, 3 * kMiB);
    device->unstage(memory, 3 * kMiB);
  }
  EXPECT_EQ(fake.calls("HostUnregister"), fake.calls("HostRegister"));
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceStaging, OfOneDeviceServesAnother) {
  FakeCuda fake({.devices = 2});
  {
    const auto first = make(0, {.segment_nbytes = kMiB});
    const auto second = make(1, {.segment_nbytes = kMiB});
    std::byte* const memory = first->stage(3 * kMiB).value();
    expect_copies_from(fake, *second, memory, 3 * kMiB);
    first->unstage(memory, 3 * kMiB);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceStaging, OfNothingIsRefused) {
  FakeCuda fake;
  const auto device = make(0);
  EXPECT_ERROR(device->stage(0), invalid_argument);
}

// Each of the four segments fails once; those before it are taken back.
TEST(CudaDeviceStaging, ThatRunsOutOfMemoryIsTakenBack) {
  for (std::uint64_t nth = 1; nth <= 4; ++nth) {
    FakeCuda fake;
    {
      const auto device = make(0, {.segment_nbytes = kMiB});
      fake.fail({.call = "HostRegister", .nth = nth, .code = cudaErrorMemoryAllocation});
      const auto memory = device->stage(4 * kMiB);
      ASSERT_FALSE(memory);
      EXPECT_EQ(memory.error().code, ErrorCode::resource_exhausted);
      EXPECT_THAT(memory.error().message,
                  HasSubstr("cuda:0: cudaHostRegister of 4194304 bytes: cudaErrorMemoryAlloc"));
      EXPECT_EQ(fake.calls("HostUnregister"), nth - 1);
      EXPECT_EQ(fake.calls("HostAlloc"), 0U);
    }
    EXPECT_THAT(fake.ledger(), IsEmpty());
  }
}

TEST(CudaDeviceStaging, IsAllocatedByCudaWhereMemoryCannotBeRegistered) {
  FakeCuda fake({.host_register_supported = false});
  {
    const auto device = make(0);
    std::byte* const memory = device->stage(kMiB + 1).value();
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % 4096, 0U);
    expect_copies_from(fake, *device, memory, kMiB + 1);
    device->unstage(memory, kMiB + 1);
    EXPECT_EQ(fake.calls("FreeHost"), 1U);
    EXPECT_EQ(fake.calls("HostUnregister"), 0U);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceStaging, IsAlignedAlsoWhereCudaDoesNotAlign) {
  static std::byte* allocated = nullptr;
  static std::byte* freed = nullptr;
  static std::vector<std::byte> block;
  block.resize(3 * 4096);
  FakeCuda fake({.host_register_supported = false});
  cuda::CudaApi api = FakeCuda::api();
  api.HostAlloc = [](void** out, size_t nbytes, unsigned int) {
    EXPECT_EQ(nbytes, 4096U + 100U);
    const std::size_t over = reinterpret_cast<std::uintptr_t>(block.data()) % 4096;
    *out = allocated = block.data() + (4096 - over) + 256;
    return cudaSuccess;
  };
  api.FreeHost = [](void* memory) {
    freed = static_cast<std::byte*>(memory);
    return cudaSuccess;
  };
  const auto device = cuda::make_cuda_device(api, 0, {}).value();
  std::byte* const memory = device->stage(100).value();
  EXPECT_EQ(memory, allocated + 4096 - 256);
  device->unstage(memory, 100);
  EXPECT_EQ(freed, allocated);
}

TEST(CudaDeviceStaging, SaysWhatTheFallbackSaysWhereItFails) {
  FakeCuda fake({.host_register_supported = false});
  {
    const auto device = make(0);
    fake.fail({.call = "HostAlloc", .code = cudaErrorMemoryAllocation});
    EXPECT_ERROR(device->stage(kMiB), resource_exhausted);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// A copy may still read memory that CUDA does not let go of.
TEST(CudaDeviceStaging, IsKeptWhereItCannotBeUnregistered) {
  FakeCuda fake;
  const auto device = make(0, {.segment_nbytes = kMiB});
  std::byte* const memory = device->stage(2 * kMiB).value();
  fake.fail({.call = "HostUnregister", .nth = 2, .code = cudaErrorCudartUnloading});
  device->unstage(memory, 2 * kMiB);
  EXPECT_EQ(fake.calls("HostUnregister"), 2U);
  std::memset(memory, 1, 2 * kMiB);
  // Nobody else gets it.
  std::byte* const other = device->stage(2 * kMiB).value();
  EXPECT_TRUE(other >= memory + 2 * kMiB || memory >= other + 2 * kMiB);
  device->unstage(other, 2 * kMiB);
  EXPECT_THAT(fake.misuse(), IsEmpty());
}

TEST(CudaDeviceStaging, IsKeptWhereItCannotBeTakenBack) {
  static std::byte* first = nullptr;
  FakeCuda fake;
  cuda::CudaApi api = FakeCuda::api();
  api.HostRegister = [](void* memory, size_t nbytes, unsigned int flags) {
    if (first == nullptr) first = static_cast<std::byte*>(memory);
    return FakeCuda::api().HostRegister(memory, nbytes, flags);
  };
  const auto device = cuda::make_cuda_device(api, 0, {}, {.segment_nbytes = kMiB}).value();
  fake.fail({.call = "HostRegister", .nth = 2, .code = cudaErrorMemoryAllocation});
  fake.fail({.call = "HostUnregister", .code = cudaErrorUnknown});
  EXPECT_ERROR(device->stage(2 * kMiB), resource_exhausted);
  std::byte* const other = device->stage(2 * kMiB).value();
  EXPECT_TRUE(other >= first + 2 * kMiB || first >= other + 2 * kMiB);
  device->unstage(other, 2 * kMiB);
  EXPECT_THAT(fake.misuse(), IsEmpty());
}

TEST(CudaDeviceStaging, IsGivenBackOnce) {
  FakeCuda fake;
  const auto device = make(0, {.segment_nbytes = kMiB});
  std::byte* const memory = device->stage(kMiB).value();
  device->unstage(memory, kMiB);
  device->unstage(memory, kMiB);
  EXPECT_EQ(fake.calls("HostUnregister"), 1U);
  EXPECT_THAT(fake.misuse(), IsEmpty());
}

// Page-locked for every GPU of the process, not only for its own.
TEST(CudaDeviceStaging, IsPortable) {
  static unsigned int registered = 0;
  static unsigned int allocated = 0;
  FakeCuda fake;
  cuda::CudaApi api = FakeCuda::api();
  api.HostRegister = [](void*, size_t, unsigned int flags) {
    registered = flags;
    return cudaErrorNotSupported;
  };
  api.HostAlloc = [](void** out, size_t nbytes, unsigned int flags) {
    allocated = flags;
    return FakeCuda::api().HostAlloc(out, nbytes, flags);
  };
  const auto device = cuda::make_cuda_device(api, 0, {}).value();
  device->unstage(device->stage(4096).value(), 4096);
  EXPECT_EQ(registered, cudaHostRegisterPortable);
  EXPECT_EQ(allocated, cudaHostAllocPortable);
  EXPECT_THAT(fake.misuse(), IsEmpty());
}

TEST(CudaDeviceMemory, RunsOut) {
  FakeCuda fake({.device_limit_nbytes = kMiB});
  {
    const auto device = make(0);
    const auto memory = device->memory()->allocate(kMiB + 1);
    ASSERT_FALSE(memory);
    EXPECT_EQ(memory.error().code, ErrorCode::resource_exhausted);
    EXPECT_THAT(memory.error().message, HasSubstr("cuda:0: cudaMalloc of 1048577 bytes: "));
    std::byte* const nothing = device->memory()->allocate(0).value();
    EXPECT_NE(nothing, nullptr);
    device->memory()->release(nothing, 0);
    device->memory()->release(nullptr, 0);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// ---- destinations ---------------------------------------------------------------------------

TEST(CudaDeviceCheck, TakesMemoryOfItsGpu) {
  FakeCuda fake({.devices = 2});
  const auto device = make(1);
  const auto* const memory = static_cast<std::byte*>(fake.engine_allocate(1, 1000));
  const auto* const managed =
      static_cast<std::byte*>(fake.engine_allocate(1, 1000, FakeCuda::Memory::managed));
  EXPECT_OK(device->check(memory, 1000));
  EXPECT_OK(device->check(memory + 999, 1));
  EXPECT_OK(device->check(managed, 1000));
  EXPECT_OK(device->check(nullptr, 0));
}

TEST(CudaDeviceCheck, SaysWhatItFoundInstead) {
  FakeCuda fake({.devices = 2});
  const auto device = make(1);
  const auto refuse = [&](const void* data, std::uint64_t nbytes) -> std::string {
    const auto checked = device->check(static_cast<const std::byte*>(data), nbytes);
    EXPECT_ERROR(checked, destination_invalid);
    return checked ? "" : checked.error().message;
  };
  EXPECT_EQ(
      refuse(fake.engine_allocate(0, 1000), 1000),
      "cuda:1: wrong memory: found the first byte in memory of cuda:0, expected memory of cuda:1");
  EXPECT_THAT(refuse(fake.engine_allocate(0, 1000, FakeCuda::Memory::managed), 1000),
              HasSubstr("managed memory of cuda:0"));
  EXPECT_THAT(refuse(&fake, 1), HasSubstr("memory unknown to CUDA"));
  EXPECT_THAT(refuse(nullptr, 1), HasSubstr("memory unknown to CUDA"));
  std::byte* const staged = device->stage(4096).value();
  EXPECT_THAT(refuse(staged, 4096), HasSubstr("page-locked host memory"));
  device->unstage(staged, 4096);
  void* const memory = fake.engine_allocate(1, 4096);
  EXPECT_THAT(refuse(memory, 4097), HasSubstr("the last byte"));
  EXPECT_THAT(refuse(memory, ~std::uint64_t{0}), HasSubstr("past the end of the address space"));
  fake.engine_free(memory);
  EXPECT_THAT(refuse(memory, 4096), HasSubstr("or freed"));
}

TEST(CudaDeviceCheck, ThatFailsSaysSo) {
  FakeCuda fake;
  const auto device = make(0);
  const auto* const memory = static_cast<std::byte*>(fake.engine_allocate(0, 1000));
  for (std::uint64_t nth = 1; nth <= 2; ++nth) {
    fake.fail({.call = "PointerGetAttributes", .nth = nth, .code = cudaErrorIllegalAddress});
    EXPECT_ERROR(device->check(memory, 1000), device_error);
    EXPECT_EQ(fake.last_error_of_this_thread(), cudaSuccess);
  }
}

// ---- reading back ---------------------------------------------------------------------------

TEST(CudaDeviceReadBack, ComesAfterTheCopiesInPiecesOfTheBounce) {
  FakeCuda fake({.not_ready_queries = 2});
  {
    const auto device = make(0, {.segment_nbytes = kMiB, .bounce_nbytes = 4096});
    std::byte* const from = device->stage(10'000).value();
    for (std::size_t i = 0; i < 10'000; ++i) from[i] = static_cast<std::byte>(i % 251);
    const DeviceBuffer buffer = DeviceBuffer::allocate(*device, 10'000).value();
    const CopyPiece piece{.from = from, .to = buffer.data(), .nbytes = 10'000};
    device->forget(device->copy({&piece, 1}).value());
    std::vector<std::byte> out(10'000);
    EXPECT_OK(device->memory()->read_back(buffer.data(), out));
    EXPECT_EQ(fake.calls("MemcpyAsync"), 4U);
    EXPECT_EQ(std::memcmp(out.data(), from, out.size()), 0);
    EXPECT_OK(device->memory()->read_back(nullptr, {}));
    device->unstage(from, 10'000);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceReadBack, DoesNotCrossSegments) {
  FakeCuda fake;
  {
    const auto device = make(0, {.segment_nbytes = 4096, .bounce_nbytes = 8192});
    const DeviceBuffer buffer = DeviceBuffer::allocate(*device, 10'000).value();
    std::vector<std::byte> out(10'000);
    EXPECT_OK(device->memory()->read_back(buffer.data(), out));
    EXPECT_EQ(fake.calls("MemcpyAsync"), 3U);
    EXPECT_EQ(out, std::vector<std::byte>(10'000, FakeCuda::kCanary));
  }
  EXPECT_THAT(fake.misuse(), IsEmpty());
}

// The copy may write to the bounce memory yet: it stays page-locked, and nobody else's.
TEST(CudaDeviceReadBack, GivesUpAndKeepsTheMemoryWhereTheGpuNeverEnds) {
  FakeCuda fake;
  const auto device = make(0, {.read_back_timeout = std::chrono::milliseconds{20}});
  const DeviceBuffer buffer = DeviceBuffer::allocate(*device, 1000).value();
  fake.fail({.fault = Injection::Fault::not_ready, .call = "MemcpyAsync"});
  std::vector<std::byte> out(1000);
  const auto read = device->memory()->read_back(buffer.data(), out);
  EXPECT_ERROR(read, device_timeout);
  EXPECT_EQ(fake.calls("HostUnregister"), 0U);
  fake.heal();
  fake.run_all();
  EXPECT_TRUE(device->done(device->fence().value()).value());
  EXPECT_EQ(fake.calls("EventCreateWithFlags"), 1U);
  EXPECT_THAT(fake.misuse(), IsEmpty());
}

TEST(CudaDeviceReadBack, ThatFailedUsesItsMemoryAgainWhenTheStreamIsEmpty) {
  for (const char* const call : {"MemcpyAsync", "EventQuery"}) {
    FakeCuda fake;
    {
      const auto device = make(0);
      const DeviceBuffer buffer = DeviceBuffer::allocate(*device, 1000).value();
      std::vector<std::byte> out(1000);
      fake.fail({.call = call, .code = cudaErrorIllegalAddress});
      EXPECT_ERROR(device->memory()->read_back(buffer.data(), out), device_error);
      const std::uint64_t registered = fake.calls("HostRegister");
      EXPECT_OK(device->memory()->read_back(buffer.data(), out));
      EXPECT_EQ(fake.calls("HostRegister"), registered);
    }
    EXPECT_THAT(fake.ledger(), IsEmpty());
  }
}

// ---- which devices there are ----------------------------------------------------------------

TEST(CudaDeviceList, HasAllInOrder) {
  FakeCuda fake({.devices = 3});
  const auto devices = cuda::make_cuda_devices(FakeCuda::api());
  ASSERT_OK(devices);
  ASSERT_EQ(devices->size(), 3U);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ((*devices)[static_cast<std::size_t>(i)].ordinal, i);
    EXPECT_FALSE((*devices)[static_cast<std::size_t>(i)].free_nbytes);
  }
  EXPECT_EQ(fake.calls("SetDevice") + fake.calls("MemGetInfo"), 0U);
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceList, SaysWhichDeviceItIs) {
  FakeCuda fake({.devices = 2, .device_limit_nbytes = 1 << 20});
  static_cast<void>(fake.engine_allocate(1, 4096));
  const TempDir sysfs;
  const std::filesystem::path folder = sysfs / "bus/pci/devices/0000:a1:00.0";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "numa_node") << "3\n";
  const auto infos =
      cuda::make_cuda_devices(FakeCuda::api(), FreeMemory::ask, sysfs.path().native());
  ASSERT_OK(infos);
  for (std::size_t i = 0; i < 2; ++i) {
    const CudaDeviceInfo& info = (*infos)[i];
    EXPECT_EQ(info.uuid.front(), std::byte{0xFA});
    EXPECT_EQ(info.uuid.back(), static_cast<std::byte>(i));
    EXPECT_EQ(info.pci_bus_id, i == 0 ? "0000:A0:00.0" : "0000:A1:00.0");
    EXPECT_EQ(info.numa_node, i == 0 ? -1 : 3);
    EXPECT_EQ(info.memory_nbytes, 1U << 20);
    EXPECT_EQ(info.free_nbytes, (1U << 20) - (i == 0 ? 0U : 4096U));
  }
  for (const char* const call : {"DeviceGetPCIBusId", "MemGetInfo", "SetDevice"}) {
    fake.fail({.call = call, .nth = 2});
    EXPECT_ERROR(cuda::make_cuda_devices(FakeCuda::api(), FreeMemory::ask), device_error);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// As the kernel writes it where there is one node, and files that are none of its.
TEST(CudaDeviceList, KnowsNoNodeWhereSysfsSaysNone) {
  const TempDir sysfs;
  const std::filesystem::path folder = sysfs / "bus/pci/devices/0000:0c:00.0";
  std::filesystem::create_directories(folder);
  for (const char* const text : {"-1\n", "", "node 3\n", "99999999999999999999\n", "3x"}) {
    std::ofstream(folder / "numa_node") << text;
    EXPECT_EQ(cuda::numa_node_of_pci(sysfs.path().native(), "0000:0C:00.0"), -1) << text;
  }
  std::ofstream(folder / "numa_node") << "0\n";
  EXPECT_EQ(cuda::numa_node_of_pci(sysfs.path().native(), "0000:0C:00.0"), 0);
}

TEST(CudaDeviceList, HasNoOtherOrdinals) {
  FakeCuda fake({.devices = 2});
  for (const int ordinal : {-1, 2}) {
    EXPECT_ERROR(cuda::make_cuda_device(FakeCuda::api(), ordinal, {}), device_unavailable);
  }
  EXPECT_EQ(fake.calls("SetDevice"), 0U);
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceList, OfNoneIsAnError) {
  FakeCuda fake({.devices = 0});
  EXPECT_ERROR(cuda::make_cuda_devices(FakeCuda::api()), device_unavailable);
  EXPECT_ERROR(cuda::make_cuda_device(FakeCuda::api(), 0, {}), device_unavailable);
}

TEST(CudaDeviceList, TellsAMachineWithoutCudaFromOneWhereItFails) {
  FakeCuda fake;
  for (const cudaError_t code :
       {cudaErrorInsufficientDriver, cudaErrorStubLibrary, cudaErrorNoDevice,
        cudaErrorMpsConnectionFailed, cudaErrorMpsServerNotReady, cudaErrorMpsMaxClientsReached,
        cudaErrorMpsMaxConnectionsReached}) {
    fake.fail({.call = "GetDeviceCount", .code = code});
    EXPECT_ERROR(cuda::make_cuda_devices(FakeCuda::api()), device_unavailable);
    fake.fail({.call = "GetDeviceCount", .code = code});
    EXPECT_ERROR(cuda::make_cuda_device(FakeCuda::api(), 0, {}), device_unavailable);
  }
  fake.fail({.call = "GetDeviceCount", .code = cudaErrorInitializationError});
  EXPECT_ERROR(cuda::make_cuda_devices(FakeCuda::api()), device_error);
  fake.fail({.call = "GetDeviceProperties", .code = cudaErrorInitializationError});
  EXPECT_ERROR(cuda::make_cuda_devices(FakeCuda::api()), device_error);
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

}  // namespace
}  // namespace flatbed
