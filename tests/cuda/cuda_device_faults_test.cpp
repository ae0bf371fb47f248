// CudaDevice under everything that can go wrong, against the fake runtime: each call of each kind
// fails once, or is the last that works; there is no thread; CUDA is unloading. And what the
// caller's thread sees of it, which is nothing.
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "cuda/cuda_device.hpp"
#include "cuda/cuda_error.hpp"
#include "support/expect_error.hpp"
#include "support/fake_cuda.hpp"
#include "support/sanitizers.hpp"

namespace {

std::atomic<bool> g_no_threads{false};

}  // namespace

// In place of the C library's, for a machine that has no thread left.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*start)(void*), void* argument) noexcept {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto create = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  return g_no_threads ? EAGAIN : create(thread, attributes, start, argument);
}

namespace flatbed {
namespace {

using cuda::CudaApi;
using testing::Contains;
using testing::IsEmpty;
using testing::Not;

constexpr std::size_t kMiB = std::size_t{1} << 20;

// ---- which thread calls ---------------------------------------------------------------------

std::mutex g_mutex;
std::multiset<std::thread::id> g_callers;

template <auto kCall>
struct Noting;
template <typename... Arguments, CudaApi::Call<Arguments...> CudaApi::*kCall>
struct Noting<kCall> {
  static cudaError_t call(Arguments... arguments) {
    {
      const std::lock_guard lock(g_mutex);
      g_callers.insert(std::this_thread::get_id());
    }
    return (FakeCuda::api().*kCall)(arguments...);
  }
};

template <auto... kCalls>
CudaApi noting() {
  CudaApi api = FakeCuda::api();
  ((api.*kCalls = Noting<kCalls>::call), ...);
  return api;
}

const CudaApi& noting_api() {
  static const CudaApi api =
      noting<&CudaApi::GetDeviceCount, &CudaApi::GetDeviceProperties, &CudaApi::SetDevice,
             &CudaApi::Malloc, &CudaApi::Free, &CudaApi::HostAlloc, &CudaApi::FreeHost,
             &CudaApi::HostRegister, &CudaApi::HostUnregister, &CudaApi::PointerGetAttributes,
             &CudaApi::StreamCreateWithFlags, &CudaApi::StreamDestroy, &CudaApi::StreamQuery,
             &CudaApi::StreamWaitEvent, &CudaApi::StreamIsCapturing,
             &CudaApi::ThreadExchangeStreamCaptureMode, &CudaApi::LaunchHostFunc,
             &CudaApi::MemcpyAsync, &CudaApi::Memcpy2DAsync, &CudaApi::MemcpyBatchAsync,
             &CudaApi::DeviceGetAttribute, &CudaApi::DeviceGetPCIBusId, &CudaApi::MemGetInfo,
             &CudaApi::EventCreateWithFlags, &CudaApi::EventDestroy, &CudaApi::EventRecord,
             &CudaApi::EventQuery, &CudaApi::GetLastError, &CudaApi::PeekAtLastError>();
  return api;
}

// The calls since the last time: made by this thread, made by others.
struct Callers {
  std::size_t this_thread = 0;
  std::size_t others = 0;
};
Callers take_callers() {
  const std::lock_guard lock(g_mutex);
  const std::size_t mine = g_callers.count(std::this_thread::get_id());
  const Callers out{mine, g_callers.size() - mine};
  g_callers.clear();
  return out;
}

TEST(CudaDeviceThreads, AreItsOwnForWhatMayBeCalledFromAnywhere) {
  FakeCuda fake({.devices = 2});
  static_cast<void>(take_callers());
  const auto expect_others = [](const char* what) {
    const Callers callers = take_callers();
    EXPECT_EQ(callers.this_thread, 0U) << what;
    EXPECT_GT(callers.others, 0U) << what;
  };
  ASSERT_OK(cuda::make_cuda_devices(noting_api()));
  expect_others("list");
  auto device = cuda::make_cuda_device(noting_api(), 1, {}).value();
  expect_others("create");
  std::byte* const staged = device->stage(4096).value();
  expect_others("stage");
  std::byte* const memory = device->memory()->allocate(4096).value();
  expect_others("allocate");
  std::vector<std::byte> out(4096);
  EXPECT_OK(device->memory()->read_back(memory, out));
  expect_others("read_back");
  device->unstage(staged, 4096);
  expect_others("unstage");
  device->memory()->release(memory, 4096);
  expect_others("release");
  device.reset();
  expect_others("destroy");
  EXPECT_FALSE(cuda::make_cuda_device(noting_api(), 2, {}));
  expect_others("refuse");
  EXPECT_THAT(fake.misuse(), IsEmpty());
}

TEST(CudaDeviceThreads, AreTheLoadsForCopies) {
  FakeCuda fake({.devices = 2});
  {
    const auto device = cuda::make_cuda_device(noting_api(), 1, {}).value();
    EXPECT_OK(device->enter_thread());
    static_cast<void>(take_callers());
    const Ticket fence = device->fence().value();
    EXPECT_TRUE(device->done(fence).value());
    EXPECT_EQ(take_callers().others, 1U);  // which made the event
    device->forget(device->copy({}).value());
    EXPECT_OK(device->check(nullptr, 0));
    EXPECT_EQ(take_callers().others, 0U);
    // These make no calls.
    const Ticket copied = device->copy({}).value();
    static_cast<void>(take_callers());
    EXPECT_NE(device->native_event(copied), nullptr);
    device->forget(copied);
    EXPECT_EQ(take_callers().this_thread, 0U);
  }
  EXPECT_THAT(fake.misuse(), IsEmpty());
}

bool blocks_sigterm() {
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  return sigismember(&mask, SIGTERM) == 1;
}

TEST(CudaDeviceThreads, TakeNoSignals) {
  static bool blocked = false;
  FakeCuda fake;
  CudaApi api = FakeCuda::api();
  api.Malloc = [](void** out, size_t nbytes) {
    blocked = blocks_sigterm();
    return FakeCuda::api().Malloc(out, nbytes);
  };
  const auto device = cuda::make_cuda_device(api, 0, {}).value();
  const DeviceBuffer buffer = DeviceBuffer::allocate(*device, 100).value();
  EXPECT_TRUE(blocked);
  EXPECT_FALSE(blocks_sigterm());  // this thread, as before
}

// A reading thread begins on device 0.
TEST(CudaDeviceThreads, AreMadeToUseTheirGpu) {
  FakeCuda fake({.devices = 2});
  {
    const auto first = cuda::make_cuda_device(FakeCuda::api(), 0, {}).value();
    const auto second = cuda::make_cuda_device(FakeCuda::api(), 1, {}).value();
    const auto* const memory = static_cast<std::byte*>(fake.engine_allocate(1, 100));
    std::thread reader([&] {
      EXPECT_OK(first->enter_thread());
      EXPECT_OK(second->enter_thread());
      const std::uint64_t set = fake.calls("SetDevice");
      EXPECT_OK(second->check(memory, 100));
      for (int i = 0; i < 3; ++i) {
        EXPECT_TRUE(first->done(first->fence().value()).value());
        EXPECT_TRUE(second->done(second->fence().value()).value());
        EXPECT_TRUE(second->done(second->copy({}).value()).value());
        EXPECT_TRUE(first->done(first->copy({}).value()).value());
      }
      EXPECT_EQ(fake.calls("SetDevice"), set);  // once for each thread and GPU
      EXPECT_EQ(fake.calls("EventCreateWithFlags"), 2U);
      EXPECT_EQ(fake.calls("EventRecord"), 12U);
    });
    reader.join();
    EXPECT_OK(first->enter_thread());
    const Ticket ticket = second->fence().value();
    std::thread asker([&] {
      EXPECT_OK(second->enter_thread());
      EXPECT_TRUE(second->done(ticket).value());
    });
    asker.join();
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// An engine that calls the device itself has made a GPU current, and finds it so afterwards.
TEST(CudaDeviceThreads, OfTheEngineKeepTheirGpu) {
  FakeCuda fake({.devices = 2});
  fake.engine_device(1);
  {
    const auto device = cuda::make_cuda_device(FakeCuda::api(), 0, {}).value();
    const DeviceBuffer buffer = DeviceBuffer::allocate(*device, 4096).value();
    std::byte* const staged = device->stage(4096).value();
    std::memset(staged, 0x5A, 4096);
    const CopyPiece piece{.from = staged, .to = buffer.data(), .nbytes = 4096};
    const Ticket copied = device->copy({&piece, 1}).value();
    const Ticket fence = device->fence().value();
    EXPECT_TRUE(device->wait(copied, std::chrono::seconds(60)).value());
    EXPECT_TRUE(device->done(fence).value());
    EXPECT_EQ(fake.read_device(buffer.data(), 4096), std::vector<std::byte>(4096, std::byte{0x5A}));
    device->unstage(staged, 4096);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// ---- one call fails -------------------------------------------------------------------------

// Everything that a device does, once. An error ends it early, and everything is given back.
Result<void> use_copies(FakeCuda& fake, Device& device, std::byte* staged, std::byte* memory) {
  FLATBED_TRY(device.check(memory, 2 * kMiB));
  std::memset(staged, 0x33, 2 * kMiB);
  const std::vector<CopyPiece> pieces{{.from = staged, .to = memory, .nbytes = 1000},
                                      {.from = staged + 1000,
                                       .to = memory + 1000,
                                       .nbytes = 100,
                                       .rows = 3,
                                       .from_pitch = 200,
                                       .to_pitch = 100}};
  FLATBED_ASSIGN(const Ticket ticket, device.copy(pieces));
  for (int i = 0;; ++i) {
    FLATBED_ASSIGN(const bool done, device.done(ticket));
    if (done) break;
    if (i == 100) return Error{ErrorCode::device_timeout, "not done"};
  }
  EXPECT_FALSE(fake.in_flight(staged, 2 * kMiB)) << "done() was told too early";
  std::vector<std::byte> out(1300);
  FLATBED_TRY(device.memory()->read_back(memory, out));
  EXPECT_EQ(out, std::vector<std::byte>(1300, std::byte{0x33}));
  return {};
}

// A load does this after an error too: it gives memory back once a fence allows it.
bool drain(Device& device) {
  const auto fence = device.fence();
  if (!fence) return false;
  for (int i = 0; i < 100; ++i) {
    const auto done = device.done(*fence);
    if (!done) return false;
    if (*done) return true;
  }
  device.forget(*fence);
  return false;
}

struct Outcome {
  bool ok = false;
  bool drained = true;
};

Outcome use_device(FakeCuda& fake) {
  static_cast<void>(cuda::make_cuda_devices(FakeCuda::api()));
  auto device = cuda::make_cuda_device(FakeCuda::api(), 0, {},
                                       {.segment_nbytes = kMiB,
                                        .bounce_nbytes = 4096,
                                        .read_back_timeout = std::chrono::milliseconds{10}});
  if (!device) return {};
  auto staged = (*device)->stage(2 * kMiB);
  if (!staged) return {};
  Outcome outcome;
  auto buffer = DeviceBuffer::allocate(**device, 2 * kMiB);
  if (buffer) {
    const Result<void> copied = use_copies(fake, **device, *staged, buffer->data());
    const bool drained = drain(**device);
    outcome.ok = copied && drained;
    outcome.drained = drained || drain(**device);
  }
  if (outcome.drained) {
    (*device)->unstage(*staged, 2 * kMiB);
  } else {
    // The GPU may be at it for ever: both are left to it.
    static_cast<void>(std::make_unique<DeviceBuffer>(*std::move(buffer)).release());
  }
  return outcome;
}

using Fault = Injection::Fault;

constexpr const char* kAllCalls[] = {"GetDeviceCount",
                                     "GetDeviceProperties",
                                     "DeviceGetAttribute",
                                     "DeviceGetPCIBusId",
                                     "MemGetInfo",
                                     "MemcpyBatchAsync",
                                     "SetDevice",
                                     "Malloc",
                                     "Free",
                                     "HostAlloc",
                                     "FreeHost",
                                     "HostRegister",
                                     "HostUnregister",
                                     "PointerGetAttributes",
                                     "StreamCreateWithFlags",
                                     "StreamDestroy",
                                     "StreamQuery",
                                     "StreamWaitEvent",
                                     "StreamIsCapturing",
                                     "ThreadExchangeStreamCaptureMode",
                                     "MemcpyAsync",
                                     "Memcpy2DAsync",
                                     "EventCreateWithFlags",
                                     "EventDestroy",
                                     "EventRecord",
                                     "EventQuery"};

// Runs use_device() with the fault at the first, second, ... call of that name, until there is no
// such call; returns how many there were.
template <typename Check>
std::uint64_t for_each_call(const Injection& fault, const FakeCudaOptions& options,
                            const Check& check) {
  for (std::uint64_t nth = 1;; ++nth) {
    SCOPED_TRACE(std::string(fault.call) + " " + std::to_string(nth));
    FakeCuda fake(options);
    fake.set_last_error_of_this_thread(cudaSuccess);
    Injection injection = fault;
    injection.nth = nth;
    fake.fail(injection);
    const Outcome outcome = use_device(fake);
    if (!fake.injection_fired()) {
      EXPECT_TRUE(outcome.ok);
      EXPECT_THAT(fake.ledger(), IsEmpty());
      return nth - 1;
    }
    EXPECT_THAT(fake.misuse(), IsEmpty());
    // An error that stays cannot be taken away.
    if (fault.fault != Fault::sticky) {
      EXPECT_EQ(fake.last_error_of_this_thread(), cudaSuccess);
    }
    check(fake, outcome);
  }
}

// If a GPU cannot be made current, existing memory is kept on purpose.
bool may_leak(std::string_view call) { return call == "SetDevice"; }

TEST(CudaDeviceFaults, OfEachCallAreSurvived) {
  for (const bool can_register : {true, false}) {
    std::uint64_t calls = 0;
    for (const char* const call : kAllCalls) {
      for (const cudaError_t code : {cudaErrorUnknown, cudaErrorMemoryAllocation}) {
        calls +=
            for_each_call({.call = call, .code = code}, {.host_register_supported = can_register},
                          [&](const FakeCuda& fake, const Outcome&) {
                            if (!may_leak(call)) {
                              EXPECT_THAT(fake.leaks(), IsEmpty());
                            }
                          });
      }
    }
    EXPECT_GT(calls, 60U);
  }
}

// An error that comes when the copies should be complete.
TEST(CudaDeviceFaults, AtCompletionAreReported) {
  for (const char* const call : {"MemcpyAsync", "Memcpy2DAsync"}) {
    const std::uint64_t calls = for_each_call(
        {.fault = Fault::at_completion, .call = call, .code = cudaErrorECCUncorrectable}, {},
        [&](const FakeCuda& fake, const Outcome& outcome) {
          EXPECT_FALSE(outcome.ok);
          EXPECT_THAT(fake.leaks(), IsEmpty());
        });
    EXPECT_GT(calls, 0U);
  }
}

// After an error that does not go away nothing works any more; nothing hangs, and nothing is freed
// that the GPU may still use.
TEST(CudaDeviceFaults, ThatStayAreSurvived) {
  for (const char* const call : kAllCalls) {
    for_each_call({.fault = Fault::sticky, .call = call, .code = cudaErrorIllegalAddress}, {},
                  [](const FakeCuda&, const Outcome&) {});
  }
}

TEST(CudaDeviceFaults, ACopyThatNeverEndsIsNeverDone) {
  for (const char* const call : {"MemcpyAsync", "Memcpy2DAsync", "EventRecord", "EventQuery"}) {
    for_each_call({.fault = Fault::not_ready, .call = call}, {},
                  [](const FakeCuda&, const Outcome& outcome) { EXPECT_FALSE(outcome.ok); });
  }
}

// ---- the caller's last error ----------------------------------------------------------------

TEST(CudaDeviceFaults, LeaveTheCallersLastErrorAsItWas) {
  FakeCuda fake;
  auto device = cuda::make_cuda_device(FakeCuda::api(), 0, {}).value();
  fake.set_last_error_of_this_thread(cudaErrorInvalidConfiguration);
  const auto expect_left = [&] {
    EXPECT_EQ(fake.last_error_of_this_thread(), cudaErrorInvalidConfiguration);
  };
  fake.fail({.call = "HostRegister", .code = cudaErrorMemoryAllocation});
  EXPECT_ERROR(device->stage(4096), resource_exhausted);
  expect_left();
  fake.fail({.call = "Malloc", .code = cudaErrorMemoryAllocation});
  EXPECT_ERROR(device->memory()->allocate(4096), resource_exhausted);
  expect_left();
  fake.fail({.call = "GetDeviceCount", .code = cudaErrorUnknown});
  EXPECT_ERROR(cuda::make_cuda_devices(FakeCuda::api()), device_error);
  expect_left();
  // Calls that go well do not take it away, either.
  EXPECT_TRUE(device->done(device->fence().value()).value());
  expect_left();
  fake.fail({.call = "StreamDestroy", .code = cudaErrorUnknown});
  device.reset();
  expect_left();
}

TEST(CudaDeviceFaults, TakeAwayNoOtherError) {
  FakeCuda fake;
  fake.set_last_error_of_this_thread(cudaErrorInvalidConfiguration);
  cuda::consume(FakeCuda::api(), cudaErrorUnknown);
  EXPECT_EQ(fake.last_error_of_this_thread(), cudaErrorInvalidConfiguration);
  cuda::consume(FakeCuda::api(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(fake.last_error_of_this_thread(), cudaSuccess);
}

// ---- no threads, no CUDA --------------------------------------------------------------------

class WithoutThreads {
 public:
  WithoutThreads() { g_no_threads = true; }
  WithoutThreads(const WithoutThreads&) = delete;
  WithoutThreads& operator=(const WithoutThreads&) = delete;
  ~WithoutThreads() { g_no_threads = false; }
};

TEST(CudaDeviceThreads, AreWantedByWhatCanSaySo) {
  FakeCuda fake;
  {
    const auto device = cuda::make_cuda_device(FakeCuda::api(), 0, {}).value();
    const WithoutThreads none;
    EXPECT_ERROR(cuda::make_cuda_device(FakeCuda::api(), 0, {}), resource_exhausted);
    EXPECT_ERROR(cuda::make_cuda_devices(FakeCuda::api()), resource_exhausted);
    EXPECT_ERROR(device->stage(4096), resource_exhausted);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// Memory of a device comes and goes on the thread that the device has, and bytes come back through
// memory that was page-locked once.
TEST(CudaDeviceThreads, AreNotStartedForEachCall) {
  FakeCuda fake;
  {
    auto device = cuda::make_cuda_device(noting_api(), 0, {}, {.bounce_nbytes = 4096}).value();
    std::vector<std::byte> out(10'000);
    std::byte* const first = device->memory()->allocate(out.size()).value();
    EXPECT_OK(device->memory()->read_back(first, out));
    const std::uint64_t registered = fake.calls("HostRegister");
    static_cast<void>(take_callers());
    const WithoutThreads none;
    std::byte* const second = device->memory()->allocate(out.size()).value();
    for (const std::byte* const memory : {first, second}) {
      EXPECT_OK(device->memory()->read_back(memory, out));
      EXPECT_EQ(out, std::vector<std::byte>(out.size(), FakeCuda::kCanary));
    }
    device->memory()->release(first, out.size());
    device->memory()->release(second, out.size());
    EXPECT_EQ(fake.calls("HostRegister"), registered);
    EXPECT_EQ(take_callers().this_thread, 0U);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// Readers that come at once do not share the memory that is kept.
TEST(CudaDeviceThreads, MayReadBackAtOnce) {
  FakeCuda fake({.schedule = FakeSchedule::threads});
  {
    const auto device =
        cuda::make_cuda_device(FakeCuda::api(), 0, {}, {.bounce_nbytes = 512}).value();
    std::vector<std::thread> readers;
    for (int i = 0; i < 3; ++i) {
      readers.emplace_back([&, i] {
        std::vector<std::byte> out(3000);
        const auto value = static_cast<std::byte>(i);
        const DeviceBuffer buffer = DeviceBuffer::allocate(*device, out.size()).value();
        const cudaStream_t engine = fake.engine_stream(0);
        fake.engine_write(engine, buffer.data(), out.size(), value);
        EXPECT_TRUE(fake.engine_finish(engine));
        for (int time = 0; time < 3; ++time) {
          EXPECT_OK(device->memory()->read_back(buffer.data(), out));
          EXPECT_EQ(out, std::vector<std::byte>(out.size(), value));
        }
      });
    }
    for (std::thread& reader : readers) reader.join();
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// Functions that cannot fail keep what they have instead of calling CUDA on the caller's thread.
TEST(CudaDeviceThreads, AreNotReplacedByTheCallers) {
  FakeCuda fake;
  auto device = cuda::make_cuda_device(noting_api(), 0, {}).value();
  std::byte* const staged = device->stage(4096).value();
  std::byte* const memory = device->memory()->allocate(4096).value();
  static_cast<void>(take_callers());
  {
    const WithoutThreads none;
    device->unstage(staged, 4096);
    device->memory()->release(memory, 4096);
    device.reset();
  }
  EXPECT_EQ(take_callers().this_thread, 0U);
  std::memset(staged, 1, 4096);
  EXPECT_THAT(fake.misuse(), IsEmpty());
  EXPECT_EQ(fake.calls("HostUnregister"), 0U);
  EXPECT_EQ(fake.calls("Free"), 1U);
}

// A forked process has neither the device's thread nor CUDA: it says so, and does not hang.
TEST(CudaDeviceThreads, AreNotWaitedForInAForkedProcess) {
#if FLATBED_THREAD_SANITIZER
  GTEST_SKIP() << "the thread sanitizer forks no process with threads";
#endif
  FakeCuda fake;
  auto device = cuda::make_cuda_device(FakeCuda::api(), 0, {}).value();
  std::byte* const memory = device->memory()->allocate(4096).value();
  std::byte* const staged = device->stage(4096).value();
  const pid_t child = fork();
  if (child == 0) {
    const auto allocated = device->memory()->allocate(4096);
    const auto fence = device->fence();
    const CopyPiece piece{.from = staged, .to = memory, .nbytes = 4096};
    const auto copied = device->copy({&piece, 1});
    const auto more = device->stage(4096);
    device->unstage(staged, 4096);
    if (more || more.error().code != ErrorCode::device_unavailable) _exit(4);
    if (fake.calls("HostUnregister") != 0) _exit(5);
    if (fence || fence.error().code != ErrorCode::device_unavailable) _exit(2);
    if (copied || copied.error().code != ErrorCode::device_unavailable) _exit(3);
    if (fake.calls("MemcpyAsync") != 0) _exit(6);
    device->memory()->release(memory, 4096);
    device.reset();
    _exit(!allocated && allocated.error().code == ErrorCode::device_unavailable ? 0 : 1);
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  device->unstage(staged, 4096);
  device->memory()->release(memory, 4096);
  device.reset();
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(CudaDeviceAtExit, KeepsEverythingWhileCudaUnloads) {
  FakeCuda fake;
  auto device = cuda::make_cuda_device(FakeCuda::api(), 0, {}).value();
  std::byte* const staged = device->stage(4096).value();
  std::byte* const memory = device->memory()->allocate(4096).value();
  fake.unload();
  EXPECT_ERROR(device->fence(), device_error);
  device->unstage(staged, 4096);
  device->memory()->release(memory, 4096);
  device.reset();
  std::memset(staged, 1, 4096);
  EXPECT_EQ(fake.calls("HostUnregister") + fake.calls("Free") + fake.calls("StreamDestroy"), 0U);
}

}  // namespace
}  // namespace flatbed
