// FakeCuda: a CUDA runtime for tests that needs no GPU. Nothing runs when it is submitted; when
// queued copies do run, the test decides. Copies read their sources then, so that memory which is
// reused too early arrives wrong, each time. Everything that CUDA leaves undefined is a sentence
// in the ledger.
//
//   FakeCuda fake({.devices = 2, .schedule = FakeSchedule::lazy});
//   ... code under test, given fake.api() ...
//   EXPECT_THAT(fake.ledger(), IsEmpty());
//
// One at a time is the process's fake; it owns all memory, streams and events made with it.
// Thread-safe. Under the thread sanitizer its bookkeeping orders nothing: what orders threads are
// the queries of events and streams that succeed, as with a GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cuda/cuda_api.hpp"

namespace flatbed {

using namespace cuda::runtime_names;  // cudaStream_t and so on, as if the CUDA Toolkit were there

enum class FakeSchedule {
  lazy,     // a query, a wait or a free runs what it needs, in the order of the streams
  eager,    // at once, when submitted
  random,   // each call runs some pieces of some streams first
  step,     // only FakeCuda::step() runs anything
  threads,  // a thread for each stream runs its work
};

struct FakeCudaOptions {
  int devices = 1;
  FakeSchedule schedule = FakeSchedule::lazy;
  std::uint64_t seed = 1;               // of the random schedule
  std::size_t piece_nbytes = 1 << 20;   // copies run in pieces of so many bytes
  bool last_first = false;              // the last piece, and of it the last byte, is copied first
  unsigned not_ready_queries = 0;       // so many queries of a record or stream say NotReady first
  bool host_register_supported = true;  // false: HostRegister reports NotSupported
  bool batches_supported = true;        // false: MemcpyBatchAsync reports NotSupported
  bool uses_host_pages = false;         // the GPUs use the host's page tables, as a GH200's does
  bool pageable_is_error = true;        // false: pageable sources are read late, and still noted
  bool guard_sources = true;            // hash sources when submitted, run and seen complete
  bool protect_sources = false;         // whole pages of sources in flight cannot be written
  bool track_writes = true;             // count writes for each byte of device memory
  bool move_bytes = true;               // false: a model; nothing is hashed, counted or copied
  bool backtraces = false;              // entries about a copy say where it was submitted
  std::uint64_t pinned_limit_nbytes = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t device_limit_nbytes = std::uint64_t{80} << 30;  // of each device
  // A virtual clock, where now_ns is given: a copy is complete at
  // max(now, end of the device's earlier copies) + latency + bytes / bandwidth.
  std::function<std::uint64_t()> now_ns = {};
  std::function<void(std::uint64_t)> sleep_ns = {};
  std::uint64_t submit_ns = 0;  // that submitting a copy costs its caller
  std::uint64_t copy_latency_ns = 0;
  double link_bytes_per_ns = 25;
};

// What goes wrong at the n-th call, counted from FakeCuda::fail().
struct Injection {
  enum class Fault {
    error,          // the call does nothing and returns `code`
    at_completion,  // the call succeeds; what it queues (or what is queued next) fails without
                    // moving bytes, and a query that covers it returns `code`
    sticky,         // this call and all later ones return `code`; nothing runs any more
    not_ready,      // what this call queues or queries (or what is queued next) is never ready
  };
  Fault fault = Fault::error;
  std::string_view call = {};  // "EventRecord"; empty: any call that can fail
  std::uint64_t nth = 1;
  cudaError_t code = cudaErrorUnknown;
  bool forever = false;  // each later call too; for at_completion: each later query
};

namespace fake_cuda {
struct State;
}

class FakeCuda {
 public:
  explicit FakeCuda(const FakeCudaOptions& options = {});
  FakeCuda(const FakeCuda&) = delete;
  FakeCuda& operator=(const FakeCuda&) = delete;
  ~FakeCuda();

  [[nodiscard]] static const cuda::CudaApi& api() noexcept;

  // What went wrong so far, in sentences: ledger() is misuse, then leaks, then notes.
  [[nodiscard]] std::vector<std::string> ledger() const;
  [[nodiscard]] std::vector<std::string> misuse() const;
  [[nodiscard]] std::vector<std::string> leaks() const;
  [[nodiscard]] std::vector<std::string> notes() const;  // legal, but rarely meant

  void fail(const Injection& injection);
  [[nodiscard]] bool injection_fired() const;  // any of them
  void heal();                                 // no injections and no sticky error any more

  // The number of calls so far; an empty name means all calls that can fail.
  [[nodiscard]] std::uint64_t calls(std::string_view call = {}) const;
  [[nodiscard]] cudaError_t last_error_of_this_thread() const;
  void set_last_error_of_this_thread(cudaError_t error);
  [[nodiscard]] cudaStreamCaptureMode capture_mode_of_this_thread() const;
  // From now on the runtime is unloading, as it is after main().
  void unload();

  // Runs up to n pieces of the oldest queued work, or of one stream; returns how many ran.
  std::size_t step(std::size_t n);
  std::size_t step_stream(cudaStream_t stream, std::size_t n);
  // Runs everything that can run.
  void run_all();

  // Whether a copy reads or writes any of [data, data + nbytes) and nobody has seen it complete.
  [[nodiscard]] bool in_flight(const void* data, std::size_t nbytes) const;
  // For code that is about to write host memory: notes a misuse if it is in flight.
  void about_to_write(const void* data, std::size_t nbytes, std::string_view who);

  // Device memory as it is now. Fills with zeros, and notes it, what is no device memory.
  [[nodiscard]] std::vector<std::byte> read_device(const void* from, std::size_t nbytes) const;
  struct Writes {
    std::uint64_t never = 0;
    std::uint64_t once = 0;
    std::uint64_t more = 0;
  };
  [[nodiscard]] Writes writes(const void* from, std::size_t nbytes) const;

  // For what the engine does besides the code under test: never counted, failed or called a leak.
  enum class Memory { device, managed };
  [[nodiscard]] void* engine_allocate(int device, std::size_t nbytes,
                                      Memory memory = Memory::device);
  void engine_free(void* memory);
  // Where a stream of the engine's is given, it may also be a default stream (cudaStreamLegacy,
  // cudaStreamPerThread): that of the device which engine_device() made current on this thread.
  // From then on it is a misuse to set another one there.
  void engine_device(int device);
  enum class StreamKind { non_blocking, blocking };
  [[nodiscard]] cudaStream_t engine_stream(int device, StreamKind kind = StreamKind::non_blocking);
  [[nodiscard]] cudaEvent_t engine_event(int device);
  void engine_record(cudaEvent_t event, cudaStream_t stream);
  void engine_wait(cudaStream_t stream, cudaEvent_t event);
  // Queues a kernel that reads device memory. Bytes that are not sure to have arrived by then, or
  // that nothing ever wrote, are a misuse.
  void engine_read(cudaStream_t stream, const void* from, std::size_t nbytes);
  // Queues a kernel that writes device memory. Copies to it that do not come after it are a misuse,
  // and what it writes stays if it runs last.
  void engine_write(cudaStream_t stream, void* to, std::size_t nbytes, std::byte value);
  // Captures the stream into a graph from here on. Calls that CUDA does not permit meanwhile are a
  // misuse and spoil the graph; whether it is whole, the end says.
  void engine_begin_capture(cudaStream_t stream,
                            cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal);
  [[nodiscard]] bool engine_end_capture(cudaStream_t stream);
  // Runs the stream to its end and waits for it; false if it cannot end.
  bool engine_finish(cudaStream_t stream);

  static constexpr std::byte kCanary{0xCB};  // contents of fresh device memory

 private:
  std::unique_ptr<fake_cuda::State> state_;
};

}  // namespace flatbed
