// What tests of loading to GPUs of the fake runtime share: the GPUs, which count the calls of each
// thread; destinations with a border, and what must be in them; and a clock that does not wait.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cuda/cuda_device.hpp"
#include "flatbed/load.hpp"
#include "load/load_hooks.hpp"
#include "support/expect_error.hpp"
#include "support/fake_cuda.hpp"
#include "support/load_model.hpp"
#include "support/poll.hpp"

namespace flatbed::test {

// ---- GPUs ---------------------------------------------------------------------------------------

inline thread_local std::uint64_t t_cuda_calls = 0;  // that this thread has made

template <auto kCall>
struct Counted;
template <typename Return, typename... Arguments,
          cuda::CudaCall<Return(Arguments...)> cuda::CudaApi::*kCall>
struct Counted<kCall> {
  static Return call(Arguments... arguments) {
    ++t_cuda_calls;
    return (FakeCuda::api().*kCall)(arguments...);
  }
};

inline const cuda::CudaApi& counted_cuda_api() {
  using Api = cuda::CudaApi;
  static constexpr Api kApi{Counted<&Api::GetDeviceCount>::call,
                            Counted<&Api::GetDeviceProperties>::call,
                            Counted<&Api::DeviceGetAttribute>::call,
                            Counted<&Api::DeviceGetPCIBusId>::call,
                            Counted<&Api::SetDevice>::call,
                            Counted<&Api::MemGetInfo>::call,
                            Counted<&Api::Malloc>::call,
                            Counted<&Api::Free>::call,
                            Counted<&Api::HostAlloc>::call,
                            Counted<&Api::FreeHost>::call,
                            Counted<&Api::HostRegister>::call,
                            Counted<&Api::HostUnregister>::call,
                            Counted<&Api::PointerGetAttributes>::call,
                            Counted<&Api::StreamCreateWithFlags>::call,
                            Counted<&Api::StreamDestroy>::call,
                            Counted<&Api::StreamQuery>::call,
                            Counted<&Api::StreamWaitEvent>::call,
                            Counted<&Api::StreamIsCapturing>::call,
                            Counted<&Api::ThreadExchangeStreamCaptureMode>::call,
                            Counted<&Api::LaunchHostFunc>::call,
                            Counted<&Api::MemcpyAsync>::call,
                            Counted<&Api::Memcpy2DAsync>::call,
                            Counted<&Api::MemcpyBatchAsync>::call,
                            Counted<&Api::EventCreateWithFlags>::call,
                            Counted<&Api::EventDestroy>::call,
                            Counted<&Api::EventRecord>::call,
                            Counted<&Api::EventQuery>::call,
                            Counted<&Api::EventSynchronize>::call,
                            Counted<&Api::GetLastError>::call,
                            Counted<&Api::PeekAtLastError>::call,
                            Counted<&Api::GetErrorName>::call,
                            Counted<&Api::GetErrorString>::call};
  return kApi;
}

using Gpus = std::vector<std::unique_ptr<Device>>;

enum class Streams { own, engine };

inline CudaDeviceOptions copies_in(void* stream) {
  if (stream == nullptr) return {};
  return {.stream = EngineStream::created(stream)};
}

inline Gpus make_gpus(FakeCuda& fake, int count, Streams streams = Streams::own) {
  Gpus gpus;
  for (int i = 0; i < count; ++i) {
    void* const stream = streams == Streams::engine ? fake.engine_stream(i) : nullptr;
    auto gpu = cuda::make_cuda_device(counted_cuda_api(), i, copies_in(stream));
    EXPECT_OK(gpu);
    if (gpu) gpus.push_back(*std::move(gpu));
  }
  return gpus;
}

// What a load must leave as it was on the thread that calls it.
class CallersThread {
 public:
  explicit CallersThread(FakeCuda& fake) : fake_(fake), calls_(t_cuda_calls) {
    fake.set_last_error_of_this_thread(kError);
  }
  void expect_untouched() const {
    EXPECT_EQ(fake_.last_error_of_this_thread(), kError);
    EXPECT_EQ(t_cuda_calls, calls_);
  }

 private:
  static constexpr cudaError_t kError = cudaErrorInvalidConfiguration;  // the engine's own
  FakeCuda& fake_;
  std::uint64_t calls_;
};

// ---- destinations -------------------------------------------------------------------------------

struct Wish {
  const ModelTensor* tensor = nullptr;
  Slice slice = {};
  int gpu = -1;                // -1: the host
  std::uint64_t gap_rows = 0;  // so many bytes between two rows
  Group group = {};
};

// A plan, its destinations, and what must be in them. The memory lives as long as the fake.
class LoadScene {
 public:
  LoadScene(FakeCuda& fake, const Gpus& gpus) : fake_(fake), gpus_(gpus) {}
  LoadScene(const LoadScene&) = delete;
  LoadScene& operator=(const LoadScene&) = delete;

  struct Target {
    int gpu = -1;
    std::uint32_t group = 0;
    std::byte* memory = nullptr;
    std::vector<std::byte> image;  // the memory afterwards, border and all
    std::uint64_t nbytes = 0;      // that arrive
    std::uint64_t row = 0;         // bytes of a row
    std::uint64_t pitch = 0;       // between the beginnings of two
    std::vector<std::byte> host = {};
  };

  void add(const Checkpoint& checkpoint, const Wish& wish) {
    const ModelTensor& tensor = *wish.tensor;
    const std::uint64_t element = bits(tensor.dtype) / 8;
    std::string bytes = tensor.bytes;
    std::uint64_t row = tensor.shape.empty() ? element : tensor.shape.back() * element;
    if (!tensor.shape.empty()) {
      const std::uint64_t size = tensor.shape[wish.slice.dim];
      const std::uint64_t end = wish.slice.end == Slice::kEnd ? size : wish.slice.end;
      bytes = runs_of(tensor, wish.slice.dim, wish.slice.begin, end);
      if (wish.slice.dim + 1 == tensor.shape.size()) row = (end - wish.slice.begin) * element;
    }
    const std::uint64_t pitch = row + wish.gap_rows;
    const std::uint64_t rows = row == 0 ? 0 : bytes.size() / row;
    const std::uint64_t extent = rows == 0 ? 0 : (rows - 1) * pitch + row;
    Target& target = targets_.emplace_back();
    target.gpu = wish.gpu;
    target.group = wish.group.id;
    target.nbytes = bytes.size();
    target.row = row;
    target.pitch = pitch;
    target.image.resize(extent + 2 * kBorder, FakeCuda::kCanary);
    for (std::uint64_t i = 0; i < rows; ++i)
      std::memcpy(target.image.data() + kBorder + i * pitch, bytes.data() + i * row, row);
    Device* device = nullptr;
    if (wish.gpu < 0) {
      target.host.resize(target.image.size(), FakeCuda::kCanary);
      target.memory = target.host.data();
    } else {
      device = gpus_[static_cast<std::size_t>(wish.gpu)].get();
      target.memory = static_cast<std::byte*>(fake_.engine_allocate(wish.gpu, target.image.size()));
    }
    EXPECT_OK(plan.add(checkpoint, tensor.name,
                       {.device = device,
                        .data = target.memory + kBorder,
                        .capacity = extent,
                        .row_pitch = wish.gap_rows == 0 ? 0 : pitch},
                       {.slice = wish.slice, .group = wish.group}));
  }

  [[nodiscard]] const std::deque<Target>& targets() const { return targets_; }
  [[nodiscard]] std::vector<std::byte> contents(const Target& target) const {
    return target.gpu < 0 ? target.host : fake_.read_device(target.memory, target.image.size());
  }
  [[nodiscard]] bool arrived(const Target& target) const {
    return contents(target) == target.image;
  }
  [[nodiscard]] bool border_is_whole(const Target& target) const {
    const std::vector<std::byte> found = contents(target);
    for (std::size_t i = 0; i < kBorder; ++i) {
      if (found[i] != FakeCuda::kCanary || found[found.size() - 1 - i] != FakeCuda::kCanary)
        return false;
    }
    return true;
  }
  void expect_all_arrived() const {
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      const Target& target = targets_[i];
      EXPECT_TRUE(arrived(target)) << "destination " << i;
      if (target.gpu < 0) continue;
      const FakeCuda::Writes writes = fake_.writes(target.memory, target.image.size());
      if (writes.never + writes.once + writes.more == 0) continue;  // they are not counted
      EXPECT_EQ(writes.once, target.nbytes) << "destination " << i;
      EXPECT_EQ(writes.more, 0U) << "destination " << i;
    }
  }
  // As an engine would: queues a kernel that reads what came for the group.
  void engine_reads(cudaStream_t stream, int gpu, std::uint32_t group) const {
    for (const Target& target : targets_) {
      if (target.gpu != gpu || target.group != group || target.nbytes == 0) continue;
      const bool packed = target.row == target.pitch;
      const std::uint64_t row = packed ? target.nbytes : target.row;
      for (std::uint64_t i = 0; i < target.nbytes / row; ++i)
        fake_.engine_read(stream, target.memory + kBorder + i * target.pitch, row);
    }
  }

  LoadPlan plan;

 private:
  static constexpr std::size_t kBorder = 64;

  // What slice_of() says, in less time.
  static std::string runs_of(const ModelTensor& tensor, std::size_t dim, std::uint64_t begin,
                             std::uint64_t end) {
    std::uint64_t inner = bits(tensor.dtype) / 8;
    for (std::size_t i = dim + 1; i < tensor.shape.size(); ++i) inner *= tensor.shape[i];
    const std::uint64_t pitch = tensor.shape[dim] * inner;
    std::string out;
    for (std::uint64_t at = 0; at < tensor.bytes.size(); at += pitch)
      out.append(tensor.bytes, at + begin * inner, (end - begin) * inner);
    return out;
  }

  FakeCuda& fake_;
  const Gpus& gpus_;
  std::deque<Target> targets_;
};

// ---- time ---------------------------------------------------------------------------------------

// Who sleeps does not wait, but time goes on: a second passes when it was slept for in all. Lets
// other threads run once in a while: each time costs a turn of every other program on a busy
// machine. Orders no threads, which the thread sanitizer would take for order in the load.
class HastyClock {
 public:
  [[nodiscard]] LoadHooks hooks() {
    LoadHooks hooks;
    hooks.now_ns = [this] { return now_ns_.load(std::memory_order_relaxed); };
    poll(hooks, [this](std::uint64_t nanoseconds) {
      const std::uint64_t before = now_ns_.fetch_add(nanoseconds, std::memory_order_relaxed);
      if ((before + nanoseconds) / kTurnNs != before / kTurnNs) std::this_thread::yield();
    });
    return hooks;
  }

 private:
  static constexpr std::uint64_t kTurnNs = 1'000'000;
  std::atomic<std::uint64_t> now_ns_ = 0;
};

}  // namespace flatbed::test
