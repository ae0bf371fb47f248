// A program that copies 3 MiB to the last device through the driver's table, for
// test_fake_driver.py. Exits with 0 if CUDA said that all went well, else with CUDA's error code,
// or with 200 if there is no table. With the argument "leak" it gives nothing back; with "late" it
// calls CUDA in a static destructor; with "batch" it copies in two pieces at once; with "all" it
// makes every other call, too, and exits with 210 and more if one says the wrong thing.
#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

#include "cuda/driver_api.hpp"

namespace {

using namespace flatbed::cuda;

struct Late {
  std::shared_ptr<const CudaApi> api;
  ~Late() {
    if (api != nullptr) static_cast<void>(api->Free(nullptr));
  }
};

void check(cudaError_t status) {
  if (status != cudaSuccess) std::exit(static_cast<int>(status));
}

void expect(bool is, int number) {
  if (!is) std::exit(number);
}

void use_devices(const CudaApi& api, int device) {
  cudaDeviceProp properties = {};
  int value = -1;
  std::array<char, 16> pci_id = {};
  std::size_t free = 0;
  std::size_t total = 0;
  check(api.GetDeviceProperties(&properties, device));
  expect(properties.name[0] != 0 && properties.major == 9 && properties.minor == 0, 210);
  expect(properties.uuid[0] == std::byte{0xFA} && properties.uuid[15] == std::byte(device), 211);
  check(api.DeviceGetAttribute(&value, cudaDevAttrPciBusId, device));
  expect(value == device, 212);
  check(api.DeviceGetPCIBusId(pci_id.data(), pci_id.size(), device));
  expect(pci_id[6] == '0' + device && pci_id[12] == 0, 213);
  check(api.MemGetInfo(&free, &total));
  expect(total == properties.totalGlobalMem && free < total, 214);
  expect(api.SetDevice(device + 1) == cudaErrorInvalidDevice, 215);
  expect(api.SetDevice(-1) == cudaErrorInvalidDevice, 216);
  expect(std::string_view(api.GetErrorName(cudaErrorNoDevice)) == "cudaErrorNoDevice", 217);
  expect(*api.GetErrorString(cudaErrorNoDevice) != 0, 218);
  expect(api.GetLastError() == cudaSuccess && api.PeekAtLastError() == cudaSuccess, 219);
}

void use_memory(const CudaApi& api, int device, void* to) {
  cudaPointerAttributes found = {};
  check(api.PointerGetAttributes(&found, to));
  expect(found.type == cudaMemoryTypeDevice && found.device == device, 220);
  check(api.PointerGetAttributes(&found, &found));
  expect(found.type == cudaMemoryTypeUnregistered, 221);
  void* const page = std::aligned_alloc(4096, 4096);
  check(api.HostRegister(page, 4096, cudaHostRegisterPortable));
  check(api.PointerGetAttributes(&found, page));
  expect(found.type == cudaMemoryTypeHost && found.hostPointer == page, 222);
  check(api.HostUnregister(page));
  std::free(page);
}

void use_streams(const CudaApi& api, cudaStream_t stream, std::byte* pinned, std::byte* to) {
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusActive;
  check(api.StreamIsCapturing(stream, &capturing));
  expect(capturing == cudaStreamCaptureStatusNone, 230);
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  check(api.ThreadExchangeStreamCaptureMode(&mode));
  expect(mode == cudaStreamCaptureModeGlobal, 231);
  check(api.ThreadExchangeStreamCaptureMode(&mode));
  expect(mode == cudaStreamCaptureModeRelaxed, 232);
  cudaEvent_t event = nullptr;
  bool called = false;
  check(api.EventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync));
  check(api.Memcpy2DAsync(to, 16, pinned, 8, 8, 4, cudaMemcpyHostToDevice, stream));
  check(api.EventRecord(event, stream));
  check(api.StreamWaitEvent(stream, event, 0));
  check(api.MemcpyAsync(pinned + 4096, to + 48, 8, cudaMemcpyDeviceToHost, stream));
  check(api.LaunchHostFunc(
      stream, [](void* argument) { *static_cast<bool*>(argument) = true; }, &called));
  check(api.EventRecord(event, stream));
  check(api.EventSynchronize(event));
  check(api.StreamQuery(stream));
  expect(called && std::memcmp(pinned + 4096, pinned + 24, 8) == 0, 233);
  expect(pinned[24] == std::byte{3}, 234);
  check(api.EventDestroy(event));
}

}  // namespace

int main(int argc, char** argv) {
  static Late late;
  const std::string_view how = argc > 1 ? argv[1] : "";
  const auto opened = open_driver_api();
  if (!opened) {
    std::fprintf(stderr, "%s\n", opened.error().message.c_str());
    return 200;
  }
  const CudaApi& api = **opened;
  if (how == "late") late.api = *opened;
  constexpr std::size_t kBytes = 3 << 20;
  int devices = 0;
  check(api.GetDeviceCount(&devices));
  check(api.SetDevice(devices - 1));
  void* pinned = nullptr;
  void* to = nullptr;
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  check(api.HostAlloc(&pinned, kBytes, cudaHostAllocPortable));
  check(api.Malloc(&to, kBytes));
  check(api.StreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  check(api.EventCreateWithFlags(&event, cudaEventDisableTiming));
  std::memset(pinned, 7, kBytes);
  if (how == "batch") {
    if (!api.MemcpyBatchAsync) return 201;
    constexpr std::size_t kHalf = kBytes / 2;
    void* const targets[] = {to, static_cast<std::byte*>(to) + kHalf};
    const void* const sources[] = {pinned, static_cast<std::byte*>(pinned) + kHalf};
    const std::size_t sizes[] = {kHalf, kHalf};
    check(api.MemcpyBatchAsync(targets, sources, sizes, 2, stream));
  } else {
    check(api.MemcpyAsync(to, pinned, kBytes, cudaMemcpyHostToDevice, stream));
  }
  check(api.EventRecord(event, stream));
  cudaError_t status = api.EventQuery(event);
  while (status == cudaErrorNotReady) status = api.EventQuery(event);
  check(status);
  if (how == "leak") return 0;
  if (how == "all") {
    for (int i = 0; i < 4; ++i) std::memset(static_cast<std::byte*>(pinned) + 8 * i, i, 8);
    use_devices(api, devices - 1);
    use_memory(api, devices - 1, to);
    use_streams(api, stream, static_cast<std::byte*>(pinned), static_cast<std::byte*>(to));
  }
  check(api.EventDestroy(event));
  check(api.StreamDestroy(stream));
  check(api.Free(to));
  check(api.FreeHost(pinned));
  return 0;
}
