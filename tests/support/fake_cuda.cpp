#include "support/fake_cuda.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "support/fake_cuda_state.hpp"

namespace flatbed {
namespace {

using fake_cuda::Entry;
using fake_cuda::Event;
using fake_cuda::Op;
using fake_cuda::Quiet;
using fake_cuda::State;
using fake_cuda::Stream;
using fake_cuda::text;

// The state, locked, and all the bookkeeping out of the thread sanitizer's sight.
class Locked {
 public:
  explicit Locked(State& state) : lock_(state.mutex) {}

 private:
  Quiet quiet_;
  std::lock_guard<std::mutex> lock_;
};

bool overlap(const std::byte* a, std::size_t a_nbytes, const std::byte* b, std::size_t b_nbytes) {
  return a < b + b_nbytes && b < a + a_nbytes;
}

// Whether the copy reads or writes any of it; the other rows are not its business.
bool uses(const Op& op, const std::byte* data, std::size_t nbytes) {
  for (std::size_t row = 0; row < op.rows.height; ++row) {
    if (overlap(op.rows.from + row * op.rows.from_pitch, op.rows.width, data, nbytes) ||
        overlap(op.rows.to + row * op.rows.to_pitch, op.rows.width, data, nbytes)) {
      return true;
    }
  }
  return false;
}

const Op* find_user(const State& state, const void* data, std::size_t nbytes) {
  for (const Stream* const stream : state.streams_by_number) {
    for (const auto& op : stream->unseen) {
      if (uses(*op, static_cast<const std::byte*>(data), nbytes)) return op.get();
    }
  }
  return nullptr;
}

}  // namespace

FakeCuda::FakeCuda(const FakeCudaOptions& options) {
  static std::atomic<std::uint64_t> made = 0;
  const Quiet quiet;
  state_ = std::make_unique<State>(options);
  state_->id = ++made;
  state_->link_free_ns.resize(static_cast<std::size_t>(options.devices));
  state_->device_nbytes.resize(static_cast<std::size_t>(options.devices));
  if (fake_cuda::current() != nullptr) {
    state_->add(Entry::misuse, "two FakeCuda at once: the older one is out of use");
  }
  fake_cuda::set_current(state_.get());
}

FakeCuda::~FakeCuda() {
  const Quiet quiet;
  if (fake_cuda::current() == state_.get()) fake_cuda::set_current(nullptr);
  state_->stop_workers();
  state_->unmap_all();
  state_.reset();
}

const cuda::CudaApi& FakeCuda::api() noexcept { return fake_cuda::table(); }

std::vector<std::string> FakeCuda::ledger() const {
  std::vector<std::string> out = misuse();
  for (const auto& more : {leaks(), notes()}) out.insert(out.end(), more.begin(), more.end());
  return out;
}

std::vector<std::string> FakeCuda::misuse() const {
  const Locked locked(*state_);
  return state_->misuse;
}

std::vector<std::string> FakeCuda::leaks() const {
  const Locked locked(*state_);
  return state_->leaks();
}

std::vector<std::string> FakeCuda::notes() const {
  const Locked locked(*state_);
  return state_->notes;
}

void FakeCuda::fail(const Injection& injection) {
  const Locked locked(*state_);
  bool known = injection.call.empty();
  for (std::size_t i = 0; i < fake_cuda::kCalls; ++i) {
    known = known || injection.call == fake_cuda::name_of(static_cast<fake_cuda::Call>(i));
  }
  if (!known) state_->add(Entry::misuse, text("fail(): no call is named ", injection.call));
  State::Armed armed{.injection = injection, .call = std::string(injection.call)};
  if (injection.fault == Injection::Fault::sticky && injection.code == cudaErrorUnknown) {
    armed.injection.code = cudaErrorIllegalAddress;
  }
  state_->injections.push_back(std::move(armed));
}

bool FakeCuda::injection_fired() const {
  const Locked locked(*state_);
  return std::any_of(state_->injections.begin(), state_->injections.end(),
                     [](const State::Armed& armed) { return armed.fired; });
}

void FakeCuda::heal() {
  const Locked locked(*state_);
  state_->injections.clear();
  state_->sticky = cudaSuccess;
  state_->next_fails.reset();
  state_->next_is_stuck = false;
  for (Stream* const stream : state_->streams_by_number) {
    stream->never_ready = false;
    stream->failures.clear();
    for (const auto& op : stream->queue) op->stuck = false;
  }
  for (const auto& [handle, event] : state_->events) {
    if (event->capture != nullptr) event->capture->stuck = false;
  }
  state_->changed.notify_all();
}

std::uint64_t FakeCuda::calls(std::string_view call) const {
  const Locked locked(*state_);
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < fake_cuda::kCalls; ++i) {
    const auto counted = static_cast<fake_cuda::Call>(i);
    if (call.empty() ? can_fail(counted) : call == name_of(counted)) {
      total += state_->call_counts[i];
    }
  }
  return total;
}

cudaError_t FakeCuda::last_error_of_this_thread() const {
  const Locked locked(*state_);
  return thread_state(*state_).last_error;
}

void FakeCuda::set_last_error_of_this_thread(cudaError_t error) {
  const Locked locked(*state_);
  thread_state(*state_).last_error = error;
}

cudaStreamCaptureMode FakeCuda::capture_mode_of_this_thread() const {
  const Locked locked(*state_);
  return thread_state(*state_).capture_mode;
}

void FakeCuda::unload() {
  const Locked locked(*state_);
  state_->unloaded = true;
}

std::size_t FakeCuda::step(std::size_t n) {
  const Locked locked(*state_);
  return state_->run_oldest(n);
}

std::size_t FakeCuda::step_stream(cudaStream_t handle, std::size_t n) {
  const Locked locked(*state_);
  Stream* const stream = state_->find_stream(handle, "step_stream");
  std::size_t ran = 0;
  while (stream != nullptr && ran < n) {
    const std::size_t more = state_->run_head(*stream, n - ran);
    if (more == 0) break;
    ran += more;
  }
  return ran;
}

void FakeCuda::run_all() {
  const Locked locked(*state_);
  state_->run_all();
}

bool FakeCuda::in_flight(const void* data, std::size_t nbytes) const {
  const Locked locked(*state_);
  return find_user(*state_, data, nbytes) != nullptr;
}

void FakeCuda::about_to_write(const void* data, std::size_t nbytes, std::string_view who) {
  const Locked locked(*state_);
  const Op* const user = find_user(*state_, data, nbytes);
  if (user == nullptr) return;
  state_->add(Entry::misuse, text(who, " writes ", nbytes, " bytes that copy ", user->number,
                                  " in stream ", user->stream->number, " may still use"));
}

std::vector<std::byte> FakeCuda::read_device(const void* from, std::size_t nbytes) const {
  std::vector<std::byte> out(nbytes);
  const std::byte* view = nullptr;
  {
    const Locked locked(*state_);
    fake_cuda::Allocation* block = nullptr;
    const std::string wrong = state_->check_range(from, nbytes, &block);
    if (wrong.empty()) {
      view = block->view + (static_cast<const std::byte*>(from) - block->data);
    } else if (nbytes > 0) {
      state_->add(Entry::misuse, text("read_device: it ", wrong));
    }
  }
  if (view != nullptr) std::memcpy(out.data(), view, nbytes);  // seen by the thread sanitizer
  return out;
}

FakeCuda::Writes FakeCuda::writes(const void* from, std::size_t nbytes) const {
  const Locked locked(*state_);
  Writes out;
  fake_cuda::Allocation* block = nullptr;
  const std::string wrong = state_->check_range(from, nbytes, &block);
  if (!wrong.empty()) {
    state_->add(Entry::misuse, text("writes: it ", wrong));
    return out;
  }
  if (block->write_counts == nullptr) return out;
  const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(from) - block->data);
  for (std::size_t i = offset; i < offset + nbytes; ++i) {
    ++(block->write_counts[i] == 0 ? out.never : block->write_counts[i] == 1 ? out.once : out.more);
  }
  return out;
}

void* FakeCuda::engine_allocate(int device, std::size_t nbytes, Memory memory) {
  const Locked locked(*state_);
  void* out = nullptr;
  const auto kind =
      memory == Memory::managed ? fake_cuda::MemoryKind::managed : fake_cuda::MemoryKind::device;
  if (state_->allocate_device(&out, nbytes, device, kind) != cudaSuccess) return nullptr;
  if (out != nullptr) state_->find(out)->engine = true;
  return out;
}

void FakeCuda::engine_free(void* memory) {
  const Locked locked(*state_);
  static_cast<void>(state_->release(memory, "Free", {}));
}

void FakeCuda::engine_device(int device) {
  const Locked locked(*state_);
  thread_state(*state_).device = device;
  thread_state(*state_).device_set = true;
  thread_state(*state_).is_engines = true;
}

cudaStream_t FakeCuda::engine_stream(int device, StreamKind kind) {
  const Locked locked(*state_);
  Stream& stream = state_->make_stream(device, true);
  if (kind == StreamKind::blocking) stream.kind = Stream::Kind::blocking;
  return reinterpret_cast<cudaStream_t>(&stream);
}

cudaEvent_t FakeCuda::engine_event(int device) {
  const Locked locked(*state_);
  return reinterpret_cast<cudaEvent_t>(&state_->make_event(device, true));
}

void FakeCuda::engine_record(cudaEvent_t event_handle, cudaStream_t stream_handle) {
  const Locked locked(*state_);
  Event* const event = state_->find_event(event_handle, "engine_record");
  Stream* const stream = state_->find_any_stream(stream_handle, "engine_record");
  if (event != nullptr && stream != nullptr) state_->record(*event, *stream);
}

void FakeCuda::engine_wait(cudaStream_t stream_handle, cudaEvent_t event_handle) {
  const Locked locked(*state_);
  Event* const event = state_->find_event(event_handle, "engine_wait");
  Stream* const stream = state_->find_any_stream(stream_handle, "engine_wait");
  if (event != nullptr && stream != nullptr) state_->wait(*stream, *event);
}

void FakeCuda::engine_read(cudaStream_t handle, const void* from, std::size_t nbytes) {
  const Locked locked(*state_);
  Stream* const stream = state_->find_any_stream(handle, "engine_read");
  if (stream == nullptr) return;
  Op op{.kind = Op::Kind::read};
  op.rows = {.from = static_cast<const std::byte*>(from), .width = nbytes, .height = 1};
  state_->engine_kernel(*stream, std::move(op));
}

void FakeCuda::engine_write(cudaStream_t handle, void* to, std::size_t nbytes, std::byte value) {
  const Locked locked(*state_);
  Stream* const stream = state_->find_any_stream(handle, "engine_write");
  if (stream == nullptr) return;
  Op op{.kind = Op::Kind::write};
  op.rows = {.to = static_cast<std::byte*>(to), .width = nbytes, .height = 1};
  op.written = value;
  state_->engine_kernel(*stream, std::move(op));
}

void FakeCuda::engine_begin_capture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  const Locked locked(*state_);
  Stream* const stream = state_->find_any_stream(handle, "engine_begin_capture");
  if (stream == nullptr) return;
  stream->graph = {.mode = mode, .thread = std::this_thread::get_id()};
}

bool FakeCuda::engine_end_capture(cudaStream_t handle) {
  const Locked locked(*state_);
  Stream* const stream = state_->find_any_stream(handle, "engine_end_capture");
  if (stream == nullptr || !stream->graph) return false;
  const bool whole = !stream->graph->spoilt;
  stream->graph.reset();
  return whole;
}

bool FakeCuda::engine_finish(cudaStream_t handle) {
  const Locked locked(*state_);
  Stream* const stream = state_->find_any_stream(handle, "engine_finish");
  if (stream == nullptr) return false;
  const bool ended = state_->run_to(*stream, stream->last_number);
  stream->not_ready_left = 0;
  return ended && state_->query(*stream) == cudaSuccess;
}

}  // namespace flatbed
