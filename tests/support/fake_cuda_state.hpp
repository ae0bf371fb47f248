// What the fake knows: its memory, streams, events, ledger and faults. One mutex guards all of it:
// every function of State's but perform() and copy_pieces() is called with it held.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "support/fake_cuda.hpp"
#include "support/fake_cuda_tsan.hpp"

namespace flatbed::fake_cuda {

// The calls that are counted. First those that can fail.
#define FLATBED_FAKE_CUDA_CALLS(X)   \
  X(GetDeviceCount)                  \
  X(GetDeviceProperties)             \
  X(DeviceGetAttribute)              \
  X(DeviceGetPCIBusId)               \
  X(SetDevice)                       \
  X(MemGetInfo)                      \
  X(Malloc)                          \
  X(Free)                            \
  X(HostAlloc)                       \
  X(FreeHost)                        \
  X(HostRegister)                    \
  X(HostUnregister)                  \
  X(PointerGetAttributes)            \
  X(StreamCreateWithFlags)           \
  X(StreamDestroy)                   \
  X(StreamQuery)                     \
  X(StreamSynchronize)               \
  X(StreamWaitEvent)                 \
  X(LaunchHostFunc)                  \
  X(StreamIsCapturing)               \
  X(ThreadExchangeStreamCaptureMode) \
  X(MemcpyAsync)                     \
  X(Memcpy2DAsync)                   \
  X(MemcpyBatchAsync)                \
  X(EventCreateWithFlags)            \
  X(EventDestroy)                    \
  X(EventRecord)                     \
  X(EventQuery)                      \
  X(EventSynchronize)                \
  X(GetLastError)                    \
  X(PeekAtLastError)                 \
  X(GetErrorName)                    \
  X(GetErrorString)
enum class Call {
#define FLATBED_FAKE_CUDA_ENUM(name) name,
  FLATBED_FAKE_CUDA_CALLS(FLATBED_FAKE_CUDA_ENUM)
#undef FLATBED_FAKE_CUDA_ENUM
      count
};
inline constexpr std::size_t kCalls = static_cast<std::size_t>(Call::count);
constexpr bool can_fail(Call call) { return call < Call::GetLastError; }
std::string_view name_of(Call call);

struct Stream;

// For each stream, by number: the last operation that has happened before.
using Clock = std::map<int, std::uint64_t>;
void merge(Clock& into, const Clock& from);

// What an event holds: the content of a stream at the time of one EventRecord.
struct Capture {
  Stream* stream = nullptr;
  std::uint64_t number = 0;  // of the record operation
  Clock before;
  std::uint64_t complete_at_ns = 0;
  unsigned not_ready_left = 0;
  bool stuck = false;
  bool done = false;
  char edge = 0;  // its address is what the thread sanitizer orders by
};

// Rows of bytes; the addresses are those that the caller gave.
struct Rows {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  std::size_t to_pitch = 0;
  std::size_t from_pitch = 0;
  std::size_t width = 0;
  std::size_t height = 0;
};

struct Op {
  enum class Kind { copy, record, wait, read, write, call };
  Kind kind = Kind::copy;
  std::uint64_t number = 0;
  Stream* stream = nullptr;
  std::shared_ptr<Capture> capture = {};  // of a record or wait
  cudaHostFn_t function = nullptr;        // of a call
  void* argument = nullptr;
  Rows rows = {};  // of a copy; a read has `from` and `width`, a write `to` and `width`
  std::byte* to_view = nullptr;  // where the host can reach rows.to
  const std::byte* from_view = nullptr;
  bool from_host = false;
  std::uint64_t source_hash = 0;
  std::byte written{};  // by a write
  std::size_t pieces_done = 0;
  bool last_first = false;
  bool stuck = false;
  bool failed = false;  // touches no bytes
  bool seen_modified = false;
  std::vector<void*> backtrace = {};
  char edge = 0;
};

struct Failure {  // that queries return which cover the operation
  std::uint64_t number;
  cudaError_t code;
  bool forever;
};

// A graph into which a stream of the engine's is captured.
struct Graph {
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread = {};  // that began it
  bool spoilt = false;
};

// Created ones, and the default ones: the legacy stream of a device, which waits for its blocking
// streams and they for it, and a blocking one for each thread that uses it.
struct Stream {
  enum class Kind { non_blocking, blocking, legacy };
  int number = 0;
  Kind kind = Kind::non_blocking;
  std::optional<Graph> graph = {};
  int device = 0;
  bool live = true;
  bool engine = false;
  bool release_failed = false;
  bool never_ready = false;  // to queries; its work runs nevertheless
  std::deque<std::shared_ptr<Op>> queue;
  std::deque<std::shared_ptr<Op>> unseen;  // copies that nobody has seen complete
  std::vector<Failure> failures;
  Clock before;
  std::uint64_t last_number = 0;
  std::uint64_t complete_at_ns = 0;
  unsigned not_ready_left = 0;
  char edge = 0;
  Fiber fiber;
  std::thread worker;
};

// Whether the destination has any of [data, data + nbytes).
bool overlaps_rows(const Rows& rows, const std::byte* data, std::size_t nbytes);

struct Event {
  int number = 0;
  int device = 0;
  bool live = true;
  bool engine = false;
  bool release_failed = false;
  std::shared_ptr<Capture> capture;
};

enum class MemoryKind { device, managed, pinned, registered };

// Addresses are never used twice while the fake lives, so freed ones are recognised. Device memory
// is mapped twice: at its address without access, and where the fake can reach it.
struct Allocation {
  int number = 0;
  MemoryKind kind = MemoryKind::device;
  int device = 0;
  std::byte* data = nullptr;
  std::byte* view = nullptr;
  std::size_t nbytes = 0;
  std::size_t mapped_nbytes = 0;
  bool live = true;
  bool engine = false;
  bool release_failed = false;
  std::uint8_t* write_counts = nullptr;  // mapped_nbytes of them, or none
};

enum class Entry { misuse, note };

struct Verdict {
  std::optional<Injection::Fault> fault;
  cudaError_t code = cudaSuccess;
  bool forever = false;
  // Returns the code, at once.
  [[nodiscard]] bool fails_now() const { return code != cudaSuccess && fault != late; }
  [[nodiscard]] bool fails_late() const { return fault == late; }
  [[nodiscard]] bool never_ready() const { return fault == Injection::Fault::not_ready; }
  static constexpr auto late = Injection::Fault::at_completion;
};

struct State {
  explicit State(const FakeCudaOptions& given) : options(given), random(given.seed) {}

  // ---- fake_cuda_faults.cpp: counting, injected faults, the ledger, last errors
  Verdict begin_call(Call call);  // fails_now() also for unloading and sticky errors
  void add(Entry entry, std::string sentence);
  std::vector<std::string> leaks();

  // ---- fake_cuda_memory.cpp
  cudaError_t allocate_device(void** out, std::size_t nbytes, int device, MemoryKind kind);
  cudaError_t allocate_pinned(void** out, std::size_t nbytes);
  cudaError_t register_host(void* data, std::size_t nbytes);
  // Checks are made, and memory is given back, if `verdict` does not say that the call fails.
  std::vector<std::shared_ptr<Op>> users_of(const Allocation& block) const;  // not seen complete
  cudaError_t release(const void* data, std::string_view call, const Verdict& verdict);
  Allocation* find(const void* data);  // also freed memory; null if in none
  // Why the bytes may not be used, "" if they may; sets the allocation.
  std::string check_range(const void* data, std::size_t nbytes, Allocation** out);
  std::string describe(const Allocation& allocation) const;
  void count_writes(const std::byte* to, std::size_t nbytes);
  void protect(const Op& op, bool on);
  void forget_memory(Op& op);  // of a copy, given back too early
  void unmap_all();

  // ---- fake_cuda_copy.cpp: what may be copied
  cudaError_t submit_copy(Rows rows, cudaMemcpyKind kind, cudaStream_t stream);
  std::string check_copy(Op& op, cudaMemcpyKind kind);
  void check_source(Op& op, std::string_view when);
  void claim_destination(const Op& op);
  void unclaim_destination(const Op& op);
  const Op* find_kernel(const Op& copy) const;
  bool destination_claimed(const Op& op) const;
  void copy_pieces(Op& op, std::size_t first, std::size_t count) const;  // no lock needed
  std::size_t piece_count(const Op& op) const;

  // ---- fake_cuda_streams.cpp: order
  Stream& make_stream(int device, bool engine);
  Event& make_event(int device, bool engine);
  Stream* find_stream(cudaStream_t stream, std::string_view call);
  // Also a default stream: those of the device that is current on the calling thread.
  Stream* find_any_stream(cudaStream_t stream, std::string_view call);
  Stream& default_stream(cudaStream_t stream);
  Event* find_event(cudaEvent_t event, std::string_view call);
  Op& enqueue(Stream& stream, Op op);
  Op& push(Stream& stream, Op op);
  void order_with_legacy(Stream& stream);
  std::shared_ptr<Capture> mark(Stream& stream);
  void after_submit();
  cudaError_t record(Event& event, Stream& stream);
  void wait(Stream& stream, const Event& event);
  // A kernel: a read, or a write of bytes.
  void engine_kernel(Stream& stream, Op op);
  cudaError_t query(const std::shared_ptr<Capture>& capture);
  cudaError_t query(Stream& stream);
  void see(const Clock& before);  // the host has seen all this complete
  bool any_unseen(const Clock& before) const;
  cudaError_t take_failure(const Clock& before);

  // ---- fake_cuda_capture.cpp: graphs
  bool spoils_graphs(Call call);  // of other streams, by being made on this thread at all
  cudaError_t use_uncaptured(const Stream& stream, std::string_view call);  // or spoils its graph
  cudaError_t is_capturing(const Stream& stream, cudaStreamCaptureStatus& out) const;

  // ---- fake_cuda_run.cpp: execution
  bool can_run_head(const Stream& stream) const;
  std::size_t run_head(Stream& stream, std::size_t pieces);  // pieces run, 0 if none can
  bool run_to(Stream& stream, std::uint64_t number);         // false if it cannot get there
  std::size_t run_oldest(std::size_t pieces);
  void run_random();
  void run_all();
  void begin_op(Op& op);
  void end_op(Op& op);
  void perform(Op& op, std::size_t first, std::size_t count) const;
  void check_read(const Op& op);
  void work(Stream& stream);  // the body of a worker thread
  void stop_workers();

  const FakeCudaOptions options;
  std::mutex mutex;
  std::condition_variable_any changed;
  std::mt19937_64 random;
  std::uint64_t id = 0;  // different for each fake of this process
  std::uint64_t now_ns = 0;
  bool unloaded = false;
  bool stopping = false;
  cudaError_t sticky = cudaSuccess;
  std::optional<Failure> next_fails;  // of the next operation that is queued
  bool next_is_stuck = false;

  struct Armed {
    Injection injection;
    std::string call;
    std::uint64_t seen = 0;
    bool fired = false;
  };
  std::vector<Armed> injections;
  std::array<std::uint64_t, kCalls> call_counts{};
  std::vector<std::string> misuse;
  std::vector<std::string> notes;

  std::map<const std::byte*, Allocation> allocations;  // by address
  std::map<const std::byte*, Allocation> registrations;
  std::map<const std::byte*, const std::byte*> destinations;  // in flight: begin -> end
  std::map<std::uintptr_t, int> protected_pages;
  std::vector<std::shared_ptr<Op>> kernels;  // of the engine's, not seen complete
  std::vector<std::pair<void*, std::size_t>> mappings;
  std::map<void*, std::unique_ptr<Stream>> streams;
  std::vector<Stream*> streams_by_number;
  std::map<std::pair<int, std::thread::id>, Stream*> default_streams;  // no thread: legacy
  std::map<void*, std::unique_ptr<Event>> events;
  std::vector<std::uint64_t> link_free_ns;   // of each device
  std::vector<std::uint64_t> device_nbytes;  // in use, of each device
  std::uint64_t pinned_nbytes = 0;
  std::uint64_t last_number = 0;
  int last_allocation = 0;
};

// What CUDA keeps for each host thread.
struct ThreadState {
  std::uint64_t fake = 0;
  cudaError_t last_error = cudaSuccess;
  int device = 0;
  bool device_set = false;
  bool is_engines = false;  // nobody else may set its device
  cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
};
ThreadState& thread_state(const State& state);

State* current();
void set_current(State* state);

// The calls, also those that are not in CudaApi.
const cuda::CudaApi& table();
cudaError_t stream_synchronize(cudaStream_t stream);

// Parts of a sentence, put together.
template <typename... Parts>
std::string text(const Parts&... parts) {
  std::string out;
  const auto add = [&out](const auto& part) {
    if constexpr (requires { std::to_string(part); }) {
      out += std::to_string(part);
    } else {
      out += part;
    }
  };
  (add(parts), ...);
  return out;
}

}  // namespace flatbed::fake_cuda
