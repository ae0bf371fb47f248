// What tools/gpu_check runs against a real driver: that flatbed::cuda does on it what its tests
// expect of the fake, how fast the link is in a bare loop of pinned copies, and how fast loads are.
// Prints a line of JSON for each result. Exits with 1 if a check fails.
//
//   flatbed_gpu_check check FILE
//   flatbed_gpu_check rates FILE [MIB]     MIB: how much each bare loop copies
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "cuda/cuda_api.hpp"
#include "cuda/cuda_device.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/load.hpp"

namespace flatbed {
namespace {

using namespace cuda::runtime_names;
using cuda::CudaApi;

constexpr std::size_t kMiB = std::size_t{1} << 20;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Error wrong(std::string what) { return {ErrorCode::internal_error, std::move(what)}; }

Result<void> expect(bool is, const char* what) {
  if (is) return {};
  return wrong(what);
}

Result<void> expect_status(const CudaApi& api, cudaError_t status, const char* call) {
  if (status == cudaSuccess) return {};
  return wrong(std::string(call) + ": " + api.GetErrorName(status));
}

std::vector<std::byte> pattern(std::size_t nbytes, unsigned seed) {
  std::vector<std::byte> out(nbytes);
  for (std::size_t i = 0; i < nbytes; ++i) out[i] = static_cast<std::byte>((i * 131 + seed) >> 3);
  return out;
}

Result<void> wait_for(Device& device, Ticket ticket) {
  for (;;) {
    FLATBED_ASSIGN(const bool is_done, device.done(ticket));
    if (is_done) return {};
    std::this_thread::yield();
  }
}

// ---- checks ---------------------------------------------------------------------------------

Result<void> lists_devices() {
  FLATBED_ASSIGN(const std::vector<CudaDeviceInfo> devices, cuda_devices());
  for (const CudaDeviceInfo& info : devices) {
    std::printf("{\"device\": {\"ordinal\": %d, \"memory\": %llu, \"compute\": \"%d.%d\"}}\n",
                info.ordinal, static_cast<unsigned long long>(info.memory_nbytes),
                info.compute_major, info.compute_minor);
    FLATBED_TRY(expect(!info.name.empty() && info.memory_nbytes > 0, "a device without a name"));
  }
  return expect(
      cuda_device(static_cast<int>(devices.size())).error().code == ErrorCode::device_unavailable,
      "the device after the last is not device_unavailable");
}

Result<void> copies_arrive(const CudaDeviceOptions& options) {
  FLATBED_ASSIGN(const auto gpu, cuda_device(0, options));
  FLATBED_TRY(gpu->enter_thread());
  for (const std::size_t nbytes : {std::size_t{1}, std::size_t{4097}, 9 * kMiB + 3}) {
    const std::vector<std::byte> bytes = pattern(nbytes, 7);
    FLATBED_ASSIGN(const DeviceBuffer buffer, DeviceBuffer::allocate(*gpu, nbytes));
    FLATBED_TRY(gpu->check(buffer.data(), nbytes));
    FLATBED_ASSIGN(std::byte* const staged, gpu->stage(nbytes));
    std::memcpy(staged, bytes.data(), nbytes);
    const CopyPiece piece{.from = staged, .to = buffer.data(), .nbytes = nbytes};
    FLATBED_ASSIGN(const Ticket ticket, gpu->copy({&piece, 1}));
    FLATBED_TRY(expect(gpu->native_event(ticket) != nullptr, "a ticket without an event"));
    FLATBED_TRY(wait_for(*gpu, ticket));
    std::vector<std::byte> found(nbytes);
    FLATBED_TRY(gpu->memory()->read_back(buffer.data(), found));
    gpu->unstage(staged, nbytes);
    FLATBED_TRY(expect(found == bytes, "other bytes arrived"));
  }
  return {};
}

Result<void> copies_arrive_in_own_stream() { return copies_arrive({}); }

Result<void> copies_arrive_in_the_engines_stream() {
  FLATBED_ASSIGN(const std::shared_ptr<const CudaApi> api, cuda::open_cuda_api());
  int count = 0;
  cudaStream_t stream = nullptr;
  FLATBED_TRY(expect_status(*api, api->GetDeviceCount(&count), "GetDeviceCount"));
  FLATBED_TRY(expect_status(*api, api->SetDevice(0), "SetDevice"));
  FLATBED_TRY(expect_status(*api, api->StreamCreateWithFlags(&stream, cudaStreamNonBlocking),
                            "StreamCreateWithFlags"));
  Result<void> copied = copies_arrive({.stream = EngineStream::created(stream)});
  FLATBED_TRY(expect_status(*api, api->StreamDestroy(stream), "StreamDestroy"));
  return copied;
}

Result<void> rows_arrive() {
  constexpr std::size_t kRows = 1000;
  constexpr std::size_t kRow = 1024;
  FLATBED_ASSIGN(const auto gpu, cuda_device(0));
  FLATBED_TRY(gpu->enter_thread());
  const std::vector<std::byte> bytes = pattern(kRows * 2 * kRow, 3);
  FLATBED_ASSIGN(const DeviceBuffer buffer, DeviceBuffer::allocate(*gpu, kRows * kRow));
  FLATBED_ASSIGN(std::byte* const staged, gpu->stage(bytes.size()));
  std::memcpy(staged, bytes.data(), bytes.size());
  const CopyPiece piece{.from = staged,
                        .to = buffer.data(),
                        .nbytes = kRow,
                        .rows = kRows,
                        .from_pitch = 2 * kRow,
                        .to_pitch = kRow};
  FLATBED_ASSIGN(const Ticket ticket, gpu->copy({&piece, 1}));
  FLATBED_TRY(wait_for(*gpu, ticket));
  std::vector<std::byte> found(kRows * kRow);
  FLATBED_TRY(gpu->memory()->read_back(buffer.data(), found));
  gpu->unstage(staged, bytes.size());
  for (std::size_t row = 0; row < kRows; ++row) {
    if (std::memcmp(&found[row * kRow], &bytes[row * 2 * kRow], kRow) != 0) {
      return wrong("row " + std::to_string(row) + " has other bytes");
    }
  }
  return {};
}

Result<void> refuses_freed_and_huge_memory() {
  FLATBED_ASSIGN(const auto gpu, cuda_device(0));
  FLATBED_TRY(gpu->enter_thread());
  std::byte* freed = nullptr;
  {
    FLATBED_ASSIGN(const DeviceBuffer buffer, DeviceBuffer::allocate(*gpu, 4096));
    freed = buffer.data();
    FLATBED_TRY(gpu->check(freed, 4096));
  }
  FLATBED_TRY(expect(!gpu->check(freed, 4096), "freed memory is taken"));
  const Result<DeviceBuffer> huge = DeviceBuffer::allocate(*gpu, std::uint64_t{1} << 50);
  FLATBED_TRY(expect(!huge && huge.error().code == ErrorCode::resource_exhausted,
                     "a pebibyte is not resource_exhausted"));
  return copies_arrive_in_own_stream();  // the refusals left nothing behind
}

// What the loader does not need yet, or only on some machines.
Result<void> makes_the_other_calls() {
  FLATBED_ASSIGN(const std::shared_ptr<const CudaApi> api, cuda::open_cuda_api());
  int value = 0;
  std::size_t free = 0;
  std::size_t total = 0;
  cudaStream_t stream = nullptr;
  bool called = false;
  char pci_id[32] = {};
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusActive;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  const auto set_called = [](void* argument) { *static_cast<bool*>(argument) = true; };
  const auto call = [&](cudaError_t result, const char* name) {
    return expect_status(*api, result, name);
  };
  FLATBED_TRY(call(api->GetDeviceCount(&value), "GetDeviceCount"));
  FLATBED_TRY(call(api->SetDevice(0), "SetDevice"));
  FLATBED_TRY(call(api->DeviceGetAttribute(&value, cudaDevAttrHostNumaId, 0), "HostNumaId"));
  FLATBED_TRY(call(api->DeviceGetPCIBusId(pci_id, sizeof pci_id, 0), "DeviceGetPCIBusId"));
  FLATBED_TRY(call(api->MemGetInfo(&free, &total), "MemGetInfo"));
  FLATBED_TRY(call(api->StreamCreateWithFlags(&stream, cudaStreamNonBlocking), "StreamCreate"));
  FLATBED_TRY(call(api->StreamIsCapturing(stream, &status), "StreamIsCapturing"));
  FLATBED_TRY(call(api->ThreadExchangeStreamCaptureMode(&mode), "ThreadExchangeStreamCaptureMode"));
  FLATBED_TRY(call(api->ThreadExchangeStreamCaptureMode(&mode), "ThreadExchangeStreamCaptureMode"));
  FLATBED_TRY(call(api->LaunchHostFunc(stream, set_called, &called), "LaunchHostFunc"));
  cudaEvent_t event = nullptr;
  FLATBED_TRY(call(api->EventCreateWithFlags(&event, cudaEventBlockingSync), "EventCreate"));
  FLATBED_TRY(call(api->EventRecord(event, stream), "EventRecord"));
  FLATBED_TRY(call(api->StreamWaitEvent(stream, event, 0), "StreamWaitEvent"));
  FLATBED_TRY(call(api->EventSynchronize(event), "EventSynchronize"));
  FLATBED_TRY(call(api->EventDestroy(event), "EventDestroy"));
  FLATBED_TRY(call(api->StreamDestroy(stream), "StreamDestroy"));
  std::printf("{\"pci\": \"%s\", \"numa\": %d, \"free\": %zu, \"batch\": %s}\n", pci_id, value,
              free, api->MemcpyBatchAsync ? "true" : "false");
  return expect(called && free <= total && status == cudaStreamCaptureStatusNone &&
                    mode == cudaStreamCaptureModeRelaxed,
                "a call said the wrong thing");
}

Result<void> batches_arrive() {
  FLATBED_ASSIGN(const std::shared_ptr<const CudaApi> api, cuda::open_cuda_api());
  if (!api->MemcpyBatchAsync) return {};
  FLATBED_ASSIGN(const auto gpu, cuda_device(0));
  constexpr std::size_t kCount = 100;
  constexpr std::size_t kSize = 3000;
  const std::vector<std::byte> bytes = pattern(kCount * kSize, 5);
  FLATBED_ASSIGN(const DeviceBuffer buffer, DeviceBuffer::allocate(*gpu, bytes.size()));
  FLATBED_ASSIGN(std::byte* const staged, gpu->stage(bytes.size()));
  std::memcpy(staged, bytes.data(), bytes.size());
  std::vector<void*> to;
  std::vector<const void*> from;
  const std::vector<std::size_t> sizes(kCount, kSize);
  for (std::size_t i = 0; i < kCount; ++i) {
    to.push_back(buffer.data() + i * kSize);
    from.push_back(staged + i * kSize);
  }
  int count = 0;
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  const auto call = [&](cudaError_t result, const char* name) {
    return expect_status(*api, result, name);
  };
  FLATBED_TRY(call(api->GetDeviceCount(&count), "GetDeviceCount"));
  FLATBED_TRY(call(api->SetDevice(0), "SetDevice"));
  FLATBED_TRY(call(api->StreamCreateWithFlags(&stream, cudaStreamNonBlocking), "StreamCreate"));
  FLATBED_TRY(call(api->EventCreateWithFlags(&event, cudaEventDisableTiming), "EventCreate"));
  FLATBED_TRY(call(api->MemcpyBatchAsync(to.data(), from.data(), sizes.data(), kCount, stream),
                   "MemcpyBatchAsync"));
  FLATBED_TRY(call(api->EventRecord(event, stream), "EventRecord"));
  FLATBED_TRY(call(api->EventSynchronize(event), "EventSynchronize"));
  FLATBED_TRY(call(api->EventDestroy(event), "EventDestroy"));
  FLATBED_TRY(call(api->StreamDestroy(stream), "StreamDestroy"));
  std::vector<std::byte> found(bytes.size());
  FLATBED_TRY(gpu->memory()->read_back(buffer.data(), found));
  gpu->unstage(staged, bytes.size());
  return expect(found == bytes, "other bytes arrived");
}

// ---- loads ----------------------------------------------------------------------------------

// All tensors of a file, side by side in one buffer.
struct Target {
  Checkpoint model;
  std::unique_ptr<Device> gpu;
  DeviceBuffer buffer;
  LoadPlan plan;

  [[nodiscard]] static Result<std::unique_ptr<Target>> open(const char* path) {
    FLATBED_ASSIGN(Checkpoint model, Checkpoint::open(path));
    FLATBED_ASSIGN(auto gpu, cuda_device(0));
    std::uint64_t total = 0;
    for (const TensorInfo& tensor : model.tensors()) total += (tensor.nbytes + 255) / 256 * 256;
    FLATBED_ASSIGN(DeviceBuffer buffer, DeviceBuffer::allocate(*gpu, total));
    auto target = std::make_unique<Target>(
        Target{std::move(model), std::move(gpu), std::move(buffer), LoadPlan()});
    std::byte* at = target->buffer.data();
    for (const TensorInfo& tensor : target->model.tensors()) {
      FLATBED_TRY(
          target->plan.add(target->model, tensor.name,
                           {.device = target->gpu.get(), .data = at, .capacity = tensor.nbytes}));
      at += (tensor.nbytes + 255) / 256 * 256;
    }
    return target;
  }
};

Result<void> loads_arrive(const char* path) {
  FLATBED_ASSIGN(const std::unique_ptr<Target> target, Target::open(path));
  for (const Verify verify : {Verify::yes, Verify::no}) {
    FLATBED_ASSIGN(const LoadReport report, load(target->plan, {.verify = verify}));
    FLATBED_TRY(expect(verify == Verify::no || report.bytes_verified == report.bytes_wanted,
                       "not every byte was verified"));
    const std::byte* at = target->buffer.data();
    for (const TensorInfo& tensor : target->model.tensors()) {
      std::vector<std::byte> expected(tensor.nbytes);
      std::vector<std::byte> found(tensor.nbytes);
      FLATBED_TRY(target->model.read(tensor, 0, expected));
      FLATBED_TRY(target->gpu->memory()->read_back(at, found));
      if (found != expected) return wrong(std::string(tensor.name) + " has other bytes");
      at += (tensor.nbytes + 255) / 256 * 256;
    }
  }
  return {};
}

struct Setting {
  std::size_t slot_nbytes;
  unsigned slots;
  unsigned threads;
  Verify verify;
};

// The best of three loads through a pool that exists before. A pool much larger than the file would
// not be used.
Result<void> measure_load(const Target& target, const Setting& setting) {
  const std::size_t most = std::max<std::size_t>(target.buffer.nbytes(), 64 * kMiB);
  if (setting.slots * setting.slot_nbytes > most) return {};
  FLATBED_ASSIGN(
      const auto pool,
      StagingPool::create(*target.gpu, {setting.slots * setting.slot_nbytes, setting.slot_nbytes}));
  LoadReport best;
  for (int i = 0; i < 3; ++i) {
    FLATBED_ASSIGN(const LoadReport report, load(target.plan, {.verify = setting.verify,
                                                               .threads = setting.threads,
                                                               .pool = pool.get()}));
    if (best.seconds == 0 || report.seconds < best.seconds) best = report;
  }
  std::printf(
      "{\"load\": {\"slot_mib\": %.1f, \"slots\": %u, \"threads\": %u, \"verified\": %s, "
      "\"gb_per_s\": %.2f, \"bottleneck\": \"%s\"}}\n",
      static_cast<double>(setting.slot_nbytes) / kMiB, setting.slots, best.threads,
      setting.verify == Verify::yes ? "true" : "false",
      static_cast<double>(best.bytes_wanted) / best.seconds / 1e9,
      std::string(name(best.bottleneck)).c_str());
  return {};
}

Result<void> measure_loads(const char* path) {
  FLATBED_ASSIGN(const std::unique_ptr<Target> target, Target::open(path));
  const auto start = std::chrono::steady_clock::now();
  FLATBED_ASSIGN(const LoadReport first, load(target->plan));
  std::printf("{\"first_load\": {\"seconds\": %.3f, \"gb_per_s\": %.2f}}\n", seconds_since(start),
              static_cast<double>(first.bytes_wanted) / first.seconds / 1e9);
  for (const std::size_t slot : {kMiB, 2 * kMiB, 4 * kMiB, 8 * kMiB, 16 * kMiB})
    FLATBED_TRY(measure_load(*target, {slot, 16, 8, Verify::yes}));
  for (const unsigned slots : {2U, 4U, 8U, 32U})
    FLATBED_TRY(measure_load(*target, {4 * kMiB, slots, 8, Verify::yes}));
  for (const unsigned threads : {1U, 2U, 4U, 8U, 12U, 16U}) {
    FLATBED_TRY(measure_load(*target, {4 * kMiB, 16, threads, Verify::yes}));
    FLATBED_TRY(measure_load(*target, {4 * kMiB, 16, threads, Verify::no}));
  }
  return {};
}

// ---- the bare loop --------------------------------------------------------------------------

// Copies from `ring` slots of pinned memory in turn; a slot is used again when its copy is done.
Result<void> measure_link(const CudaApi& api, std::size_t slot, std::size_t ring,
                          std::size_t copies) {
  const auto call = [&](cudaError_t result, const char* name) {
    return expect_status(api, result, name);
  };
  void* pinned = nullptr;
  void* memory = nullptr;
  cudaStream_t stream = nullptr;
  std::vector<cudaEvent_t> events(ring);
  FLATBED_TRY(call(api.HostAlloc(&pinned, slot * ring, cudaHostAllocPortable), "HostAlloc"));
  std::memset(pinned, 1, slot * ring);
  FLATBED_TRY(call(api.Malloc(&memory, slot * ring), "Malloc"));
  FLATBED_TRY(call(api.StreamCreateWithFlags(&stream, cudaStreamNonBlocking), "StreamCreate"));
  for (cudaEvent_t& event : events)
    FLATBED_TRY(call(api.EventCreateWithFlags(&event, cudaEventDisableTiming), "EventCreate"));
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < copies; ++i) {
    const std::size_t at = i % ring;
    if (i >= ring) FLATBED_TRY(call(api.EventSynchronize(events[at]), "EventSynchronize"));
    FLATBED_TRY(call(api.MemcpyAsync(static_cast<std::byte*>(memory) + at * slot,
                                     static_cast<std::byte*>(pinned) + at * slot, slot,
                                     cudaMemcpyHostToDevice, stream),
                     "MemcpyAsync"));
    FLATBED_TRY(call(api.EventRecord(events[at], stream), "EventRecord"));
  }
  FLATBED_TRY(call(api.EventSynchronize(events[(copies - 1) % ring]), "EventSynchronize"));
  const double seconds = seconds_since(start);
  for (const cudaEvent_t event : events) FLATBED_TRY(call(api.EventDestroy(event), "EventDestroy"));
  FLATBED_TRY(call(api.StreamDestroy(stream), "StreamDestroy"));
  FLATBED_TRY(call(api.Free(memory), "Free"));
  FLATBED_TRY(call(api.FreeHost(pinned), "FreeHost"));
  std::printf("{\"link\": {\"slot_mib\": %.2f, \"ring\": %zu, \"gb_per_s\": %.2f}}\n",
              static_cast<double>(slot) / kMiB, ring,
              static_cast<double>(copies * slot) / seconds / 1e9);
  return {};
}

Result<void> measure_links(std::size_t total) {
  FLATBED_ASSIGN(const std::shared_ptr<const CudaApi> api, cuda::open_cuda_api());
  int count = 0;
  FLATBED_TRY(expect_status(*api, api->GetDeviceCount(&count), "GetDeviceCount"));
  FLATBED_TRY(expect_status(*api, api->SetDevice(0), "SetDevice"));
  for (const std::size_t slot : {kMiB / 4, kMiB, 4 * kMiB, 8 * kMiB, 32 * kMiB}) {
    for (const std::size_t ring : {std::size_t{2}, std::size_t{4}, std::size_t{16}}) {
      if (slot * ring <= total) FLATBED_TRY(measure_link(*api, slot, ring, total / slot));
    }
  }
  return {};
}

// ---- the program ----------------------------------------------------------------------------

// The text without what JSON would have to escape.
std::string plain(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '"' || c == '\\' || c < ' '; }, '\'');
  return text;
}

bool report(const char* check, const Result<void>& result) {
  std::printf("{\"check\": \"%s\", \"error\": \"%s\"}\n", check,
              result ? "" : plain(result.error().message).c_str());
  std::fflush(stdout);
  return result.has_value();
}

int run_checks(const char* path) {
  bool all = report("lists devices", lists_devices());
  all &= report("copies in its own stream", copies_arrive_in_own_stream());
  all &= report("copies in the engine's stream", copies_arrive_in_the_engines_stream());
  all &= report("copies rows", rows_arrive());
  all &= report("refuses freed and huge memory", refuses_freed_and_huge_memory());
  all &= report("makes the other calls", makes_the_other_calls());
  all &= report("copies in batches", batches_arrive());
  all &= report("loads a checkpoint", loads_arrive(path));
  return all ? 0 : 1;
}

}  // namespace
}  // namespace flatbed

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);  // what is known stays if the time is up
  const std::string_view what = argc > 2 ? argv[1] : "";
  if (what == "check") return flatbed::run_checks(argv[2]);
  if (what != "rates") return 2;
  const std::size_t mib = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 4096;
  const bool linked = flatbed::report("bare loop", flatbed::measure_links(mib << 20));
  return flatbed::report("loads", flatbed::measure_loads(argv[2])) && linked ? 0 : 1;
}
