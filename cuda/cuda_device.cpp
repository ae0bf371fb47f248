#include "cuda_device.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <thread>
#include <utility>

#include "capture_mode.hpp"
#include "cuda_error.hpp"
#include "own_thread.hpp"
#include "pci_numa.hpp"

namespace flatbed::cuda {
namespace {

// cudaMemcpy2DAsync() accepts no larger pitch.
constexpr std::uint64_t kMaxPitch = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t kMaxBatch = 4096;  // copies that go in one call

bool is_default(cudaStream_t stream) {
  return stream == cudaStreamLegacy || stream == cudaStreamPerThread;
}

std::string bytes_text(std::uint64_t nbytes) { return std::to_string(nbytes) + " bytes"; }

std::string memory_text(const cudaPointerAttributes& found) {
  switch (found.type) {
    case cudaMemoryTypeDevice:
      return "memory of cuda:" + std::to_string(found.device);
    case cudaMemoryTypeManaged:
      return "managed memory of cuda:" + std::to_string(found.device);
    case cudaMemoryTypeHost:
      return "page-locked host memory";
    default:
      return "memory unknown to CUDA (host memory, or freed)";
  }
}

}  // namespace

Result<std::unique_ptr<Device>> make_cuda_device(const CudaApi& api, int ordinal,
                                                 const CudaDeviceOptions& options,
                                                 const CudaDeviceLimits& limits) {
  return make_cuda_device(std::shared_ptr<const CudaApi>(std::shared_ptr<void>(), &api), ordinal,
                          options, limits);
}

Result<std::unique_ptr<Device>> make_cuda_device(std::shared_ptr<const CudaApi> api, int ordinal,
                                                 const CudaDeviceOptions& options,
                                                 const CudaDeviceLimits& limits) {
  auto device = std::make_unique<CudaDevice>(std::move(api), ordinal, limits);
  FLATBED_TRY(device->thread_.start());
  FLATBED_TRY(device->thread_.result_of([&] { return device->open(options); }));
  return std::unique_ptr<Device>(std::move(device));
}

CudaDevice::CudaDevice(std::shared_ptr<const CudaApi> api, int ordinal,
                       const CudaDeviceLimits& limits)
    : owned_api_(std::move(api)),
      api_(*owned_api_),
      ordinal_(ordinal),
      name_("cuda:" + std::to_string(ordinal)),
      limits_(limits),
      thread_(name_),
      handles_(std::make_unique<Handles>(api_)),
      pinned_(api_, name_, limits.segment_nbytes) {}

// If the GPU cannot be made current, which is so while CUDA unloads, the handles are leaked, and in
// a forked process, which has no CUDA; also if CUDA may still call a function that wakes threads,
// because the device hangs or has failed.
CudaDevice::~CudaDevice() {
  if (stream_ == nullptr) return;  // nothing was created
  if (idle_bounce_ != nullptr) CudaDevice::unstage(idle_bounce_, limits_.bounce_nbytes);
  static_cast<void>(thread_.run([&] {
    if (make_current() && handles_->wake_ups.settle(limits_.wake_timeout)) handles_.reset();
  }));
  static_cast<void>(handles_.release());
}

Error CudaDevice::error(cudaError_t status, std::string_view call) const {
  return cuda_error(api_, status, name_, call);
}

// For threads that begin: one that has set no device is on the first one. Nothing else depends on
// the current device. Handles are created on the device's thread, and what is queued goes where its
// stream is.
Result<void> CudaDevice::make_current() const {
  if (const cudaError_t status = api_.SetDevice(ordinal_); status != cudaSuccess) {
    return error(status, "cudaSetDevice");
  }
  return {};
}

Result<void> CudaDevice::enter_thread() {
  FLATBED_TRY(relax_capture_mode(api_, name_));
  return make_current();
}

// On the device's thread, as long as that works.
Result<void> CudaDevice::open(const CudaDeviceOptions& options) {
  FLATBED_TRY(take_stream(options.stream, "stream", copies_));
  FLATBED_TRY(take_stream(options.order_after, "order_after", order_after_));
  FLATBED_TRY(take_stream(options.order_before, "order_before", order_before_));
  if (is_default(copies_.stream)) {
    return Error{ErrorCode::invalid_argument,
                 name_ + ": the stream is a default stream: expected one that was created"};
  }
  int count = 0;
  if (const cudaError_t status = api_.GetDeviceCount(&count); status != cudaSuccess) {
    return error(status, "cudaGetDeviceCount");
  }
  if (ordinal_ < 0 || ordinal_ >= count) {
    return Error{ErrorCode::device_unavailable,
                 name_ + ": no such device: CUDA device count is " + std::to_string(count)};
  }
  FLATBED_TRY(enter_thread());
  // CUDA that does not know the attribute is older than the GPUs that have it.
  int uses = 0;
  const cudaError_t status =
      api_.DeviceGetAttribute(&uses, cudaDevAttrPageableMemoryAccessUsesHostPageTables, ordinal_);
  consume(api_, status);
  uses_host_pages_ = status == cudaSuccess && uses == 1;
  find_place();
  return open_streams();
}

// On the machine: loads are only faster if it is known.
void CudaDevice::find_place() {
  char bus_id[kPciBusIdNbytes] = "";
  const cudaError_t status = api_.DeviceGetPCIBusId(bus_id, sizeof bus_id, ordinal_);
  consume(api_, status);
  if (status != cudaSuccess) return;
  numa_node_ = numa_node_of_pci(limits_.sysfs, bus_id);
  link_ = link_of_pci(limits_.sysfs, bus_id);
}

Result<void> CudaDevice::take_stream(const std::optional<EngineStream>& given,
                                     std::string_view option, Ordered& out) const {
  if (!given) return {};
  out = {static_cast<cudaStream_t>(given->handle()), option};
  if (out.stream != nullptr) return {};
  return Error{ErrorCode::invalid_argument,
               name_ + ": " + std::string(option) +
                   ": found a null stream, expected one that was created, or the name of a "
                   "default stream (EngineStream)"};
}

Result<void> CudaDevice::open_streams() {
  stream_ = copies_.stream;
  if (stream_ == nullptr) {
    if (const cudaError_t status = api_.StreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
        status != cudaSuccess) {
      return error(status, "cudaStreamCreateWithFlags");
    }
    handles_->own_stream = Stream(api_, stream_);
  }
  const bool any = copies_.stream != nullptr || order_after_.stream != nullptr ||
                   order_before_.stream != nullptr;
  if (!any) return {};
  cudaEvent_t event = nullptr;
  if (const cudaError_t status = api_.EventCreateWithFlags(&event, cudaEventDisableTiming);
      status != cudaSuccess) {
    return error(status, "cudaEventCreateWithFlags");
  }
  handles_->probe = Event(api_, event);
  for (const Ordered& each : {copies_, order_after_, order_before_}) {
    if (each.stream != nullptr && !is_default(each.stream)) FLATBED_TRY(probe(each));
  }
  return {};
}

// ---- order with the engine's streams ---------------------------------------------------------

// Calls `work` where the stream is the one that is meant: a thread's default stream on that thread.
template <typename Work>
Result<void> CudaDevice::for_stream(const Ordered& ordered, const Work& work) {
  if (ordered.stream == cudaStreamPerThread) return in_relaxed_capture_mode(api_, name_, work);
  return thread_.result_of(work);
}

// Whether the stream is of this device and captured into no graph. Recording an event of this
// device succeeds only in a stream of this device.
Result<void> CudaDevice::probe(const Ordered& ordered) const {
  const std::string place = name_ + ": " + std::string(ordered.option);
  const auto failed = [&](cudaError_t status, std::string_view call) {
    Error error = cuda_error(api_, status, place, call);
    if (ordered.stream == cudaStreamPerThread && error.code != ErrorCode::stream_capturing) {
      error.message += "; the device must be current on the thread that calls load()";
    }
    return error;
  };
  cudaStreamCaptureStatus captured = cudaStreamCaptureStatusNone;
  if (const cudaError_t status = api_.StreamIsCapturing(ordered.stream, &captured);
      status != cudaSuccess) {
    return failed(status, "cudaStreamIsCapturing");
  }
  if (captured != cudaStreamCaptureStatusNone) {
    return Error{ErrorCode::stream_capturing,
                 place + ": the stream is being captured into a graph, expected one that is not"};
  }
  if (const cudaError_t status = api_.EventRecord(handles_->probe.get(), ordered.stream);
      status != cudaSuccess) {
    return failed(status, "cudaEventRecord");
  }
  return {};
}

// The event is one of many, as those of tickets are: another load of this device may begin in
// another thread, and its default stream be another one.
Result<void> CudaDevice::order_after_engine() {
  if (copies_.stream != nullptr) FLATBED_TRY(for_stream(copies_, [&] { return probe(copies_); }));
  if (order_before_.stream != nullptr) {
    FLATBED_TRY(for_stream(order_before_, [&] { return probe(order_before_); }));
  }
  if (order_after_.stream == nullptr) return {};
  TicketTable::Slot slot = handles_->tickets.take();
  Result<void> ordered = create_event(slot);
  if (ordered) {
    ordered = for_stream(order_after_, [&]() -> Result<void> {
      FLATBED_TRY(probe(order_after_));
      if (const cudaError_t status = api_.EventRecord(slot.event, order_after_.stream);
          status != cudaSuccess) {
        return error(status, "order_after: cudaEventRecord");
      }
      return {};
    });
  }
  if (ordered) ordered = thread_.result_of([&] { return order(stream_, slot.event); });
  handles_->tickets.put_back(slot.index);
  return ordered;
}

// The ticket's event was recorded when its fence was: to wait for one that was not does nothing.
Result<void> CudaDevice::order_before_engine(Ticket ticket) {
  if (order_before_.stream == nullptr) return {};
  const std::optional<cudaEvent_t> event = handles_->tickets.find(ticket);
  if (!event || *event == nullptr) {
    return Error{ErrorCode::device_error,
                 name_ + ": order_before: there is no event that the stream could wait for"};
  }
  return for_stream(order_before_, [&]() -> Result<void> {
    FLATBED_TRY(probe(order_before_));
    return order(order_before_.stream, *event);
  });
}

// From now on the stream waits for the event.
Result<void> CudaDevice::order(cudaStream_t stream, cudaEvent_t event) const {
  if (const cudaError_t status = api_.StreamWaitEvent(stream, event, 0); status != cudaSuccess) {
    return error(status, "cudaStreamWaitEvent");
  }
  return {};
}

// ---- memory ---------------------------------------------------------------------------------

Result<void> CudaDevice::check(const std::byte* data, std::uint64_t nbytes) {
  if (nbytes == 0) return {};
  const auto begin = reinterpret_cast<std::uintptr_t>(data);
  if (nbytes - 1 > std::numeric_limits<std::uintptr_t>::max() - begin) {
    return Error{ErrorCode::destination_invalid,
                 name_ + ": " + bytes_text(nbytes) + " reach past the end of the address space"};
  }
  FLATBED_TRY(check_byte(begin, "first"));
  return check_byte(begin + (nbytes - 1), "last");
}

Result<void> CudaDevice::check_byte(std::uintptr_t address, std::string_view which) const {
  cudaPointerAttributes found = {};
  if (const cudaError_t status =
          api_.PointerGetAttributes(&found, reinterpret_cast<const void*>(address));
      status != cudaSuccess) {
    return error(status, "cudaPointerGetAttributes");
  }
  const bool is_devices = found.type == cudaMemoryTypeDevice || found.type == cudaMemoryTypeManaged;
  if (is_devices && found.device == ordinal_) return {};
  if (uses_host_pages_ && found.type != cudaMemoryTypeDevice && address != 0) return {};
  const std::string_view why =
      is_devices || uses_host_pages_ ? "" : ", because it does not use the host's page tables";
  return Error{ErrorCode::destination_invalid,
               name_ + ": wrong memory: found the " + std::string(which) + " byte in " +
                   memory_text(found) + ", expected memory of " + name_ + std::string(why)};
}

// Where the GPU uses the host's page tables (GH200, GB10), all memory but its own is the host's.
bool CudaDevice::host_can_write(const std::byte* data, std::uint64_t nbytes) {
  if (!uses_host_pages_ || data == nullptr || nbytes == 0) return false;
  const auto begin = reinterpret_cast<std::uintptr_t>(data);
  bool can = false;
  const bool asked =
      thread_.run([&] { can = is_of_host(begin) && is_of_host(begin + (nbytes - 1)); });
  return asked && can;
}

bool CudaDevice::is_of_host(std::uintptr_t address) const {
  cudaPointerAttributes found = {};
  const cudaError_t status =
      api_.PointerGetAttributes(&found, reinterpret_cast<const void*>(address));
  consume(api_, status);
  return status == cudaSuccess && found.type != cudaMemoryTypeDevice;
}

Result<std::byte*> CudaDevice::stage(std::uint64_t nbytes) {
  FLATBED_TRY(thread_.check());
  return result_of_own_thread([&]() -> Result<std::byte*> {
    FLATBED_TRY(enter_thread());
    return pinned_.stage(static_cast<std::size_t>(nbytes));
  });
}

void CudaDevice::unstage(std::byte* memory, std::uint64_t /*nbytes*/) noexcept {
  if (!thread_.check()) return;  // a child of fork() does not have the memory
  // If no thread can be started, the memory stays staged.
  static_cast<void>(on_own_thread([&] {
    // What cannot be relaxed is tried all the same: memory would be lost.
    static_cast<void>(relax_capture_mode(api_, name_));
    if (make_current()) pinned_.unstage(memory);
  }));
}

Result<std::byte*> CudaDevice::allocate(std::uint64_t nbytes) {
  return thread_.result_of([&]() -> Result<std::byte*> {
    void* memory = nullptr;
    // Zero bytes still need an address of their own.
    if (const cudaError_t status = api_.Malloc(&memory, std::max<std::uint64_t>(nbytes, 1));
        status != cudaSuccess) {
      return error(status, "cudaMalloc of " + bytes_text(nbytes));
    }
    return static_cast<std::byte*>(memory);
  });
}

void CudaDevice::release(std::byte* memory, std::uint64_t /*nbytes*/) noexcept {
  // No device can be made current while CUDA unloads, and nothing is to be freed then.
  static_cast<void>(thread_.run([&] {
    if (make_current()) consume(api_, api_.Free(memory));
  }));
}

// ---- copies ---------------------------------------------------------------------------------

// A slot becomes a ticket only after its event was recorded after the pieces. An event that was
// not recorded would report completion at once.
Result<Ticket> CudaDevice::copy(std::span<const CopyPiece> pieces) {
  FLATBED_TRY(thread_.check());
  const TicketTable::Slot slot = handles_->tickets.take();
  Batch batch;
  Result<void> queued;
  for (std::size_t i = 0; i < pieces.size() && queued; ++i) queued = queue(pieces[i], batch);
  if (queued) queued = submit(batch);
  if (queued) queued = record(slot);
  if (!queued) {
    handles_->tickets.put_back(slot.index);
    return std::move(queued).error();
  }
  return handles_->tickets.begin(slot.index, TicketTable::Sign::event);
}

// Uses as few copies as the piece and the segments of its source allow. Those of contiguous bytes
// are only added to the batch.
Result<void> CudaDevice::queue(CopyPiece piece, Batch& batch) {
  if (piece.nbytes == 0 || piece.rows == 0) return {};
  if (piece.rows > 1 && std::min(piece.from_pitch, piece.to_pitch) < piece.nbytes) {
    return Error{ErrorCode::invalid_argument,
                 name_ + ": the pitch is too small: found " +
                     std::to_string(std::min(piece.from_pitch, piece.to_pitch)) +
                     ", expected at least " + bytes_text(piece.nbytes)};
  }
  if (piece.from_pitch == piece.nbytes && piece.to_pitch == piece.nbytes) {
    piece.nbytes *= piece.rows;
    piece.rows = 1;
  }
  const bool can_copy_rows = std::max(piece.from_pitch, piece.to_pitch) <= kMaxPitch;
  while (piece.rows > 0) {
    const std::uint64_t room = left_of_segment(piece.from, limits_.segment_nbytes);
    std::uint64_t rows = 1;
    if (piece.rows > 1 && can_copy_rows && room >= piece.nbytes) {
      rows = std::min(piece.rows, (room - piece.nbytes) / piece.from_pitch + 1);
    }
    if (rows == 1) {
      add_row(piece, batch);
      if (batch.nbytes.size() >= kMaxBatch) FLATBED_TRY(submit(batch));
    } else {
      FLATBED_TRY(queue_rows(piece, rows));
    }
    piece.rows -= rows;
    if (piece.rows == 0) break;  // the pitches of a single row do not matter
    piece.from += rows * piece.from_pitch;
    piece.to += rows * piece.to_pitch;
  }
  return {};
}

// The first row.
void CudaDevice::add_row(const CopyPiece& piece, Batch& batch) const {
  for (std::uint64_t at = 0; at < piece.nbytes;) {
    const auto nbytes = static_cast<std::size_t>(std::min<std::uint64_t>(
        piece.nbytes - at, left_of_segment(piece.from + at, limits_.segment_nbytes)));
    batch.to.push_back(piece.to + at);
    batch.from.push_back(piece.from + at);
    batch.nbytes.push_back(nbytes);
    at += nbytes;
  }
}

// One call costs as much as the copy of some KiB, so many small copies go in one.
Result<void> CudaDevice::submit(Batch& batch) {
  bool submitted = false;
  if (batch.nbytes.size() > 1) {
    FLATBED_ASSIGN(submitted, submit_at_once(batch));
  }
  for (std::size_t i = 0; i < batch.nbytes.size() && !submitted; ++i) {
    if (const cudaError_t status = api_.MemcpyAsync(batch.to[i], batch.from[i], batch.nbytes[i],
                                                    cudaMemcpyHostToDevice, stream_);
        status != cudaSuccess) {
      return error(status, "cudaMemcpyAsync of " + bytes_text(batch.nbytes[i]));
    }
  }
  batch.to.clear();
  batch.from.clear();
  batch.nbytes.clear();
  return {};
}

// False where CUDA cannot: it is too old, or the driver is.
Result<bool> CudaDevice::submit_at_once(const Batch& batch) {
  if (!api_.MemcpyBatchAsync || no_batches_) return false;
  const cudaError_t status = api_.MemcpyBatchAsync(
      batch.to.data(), batch.from.data(), batch.nbytes.data(), batch.nbytes.size(), stream_);
  if (status == cudaSuccess) return true;
  if (status != cudaErrorNotSupported && status != cudaErrorCallRequiresNewerDriver) {
    return error(status,
                 "cudaMemcpyBatchAsync of " + std::to_string(batch.nbytes.size()) + " copies");
  }
  consume(api_, status);
  no_batches_ = true;
  return false;
}

Result<void> CudaDevice::queue_rows(const CopyPiece& piece, std::uint64_t rows) {
  if (const cudaError_t status =
          api_.Memcpy2DAsync(piece.to, piece.to_pitch, piece.from, piece.from_pitch, piece.nbytes,
                             rows, cudaMemcpyHostToDevice, stream_);
      status != cudaSuccess) {
    return error(status, "cudaMemcpy2DAsync of " + std::to_string(rows) + " rows of " +
                             bytes_text(piece.nbytes));
  }
  return {};
}

// Creates the slot's event if it has none. Events are of the device that is current where they are
// created: here it is this one.
Result<void> CudaDevice::create_event(TicketTable::Slot& slot) {
  if (slot.event != nullptr) return {};
  return thread_.result_of([&]() -> Result<void> {
    if (const cudaError_t status = api_.EventCreateWithFlags(&slot.event, cudaEventDisableTiming);
        status != cudaSuccess) {
      return error(status, "cudaEventCreateWithFlags");
    }
    handles_->tickets.set_event(slot.index, Event(api_, slot.event));
    return {};
  });
}

// Records after everything queued so far.
Result<void> CudaDevice::record(TicketTable::Slot slot) {
  FLATBED_TRY(create_event(slot));
  if (const cudaError_t status = api_.EventRecord(slot.event, stream_); status != cudaSuccess) {
    return error(status, "cudaEventRecord");
  }
  return {};
}

Result<Ticket> CudaDevice::fence() {
  FLATBED_TRY(thread_.check());
  const TicketTable::Slot slot = handles_->tickets.take();
  Result<void> recorded = record(slot);
  if (recorded) return handles_->tickets.begin(slot.index, TicketTable::Sign::event);
  // A drain after an error must not fail for lack of an event. An empty stream proves the same,
  // only later.
  const cudaError_t status = api_.StreamQuery(stream_);
  consume(api_, status);
  if (status != cudaSuccess && status != cudaErrorNotReady) {
    handles_->tickets.put_back(slot.index);
    return std::move(recorded).error();
  }
  return handles_->tickets.begin(slot.index, TicketTable::Sign::stream);
}

Result<bool> CudaDevice::done(Ticket ticket) {
  const std::optional<cudaEvent_t> event = handles_->tickets.find(ticket);
  if (!event) {
    return Error{ErrorCode::invalid_argument,
                 name_ + ": ticket " + std::to_string(ticket) + " has ended or never existed"};
  }
  Result<bool> complete = is_complete(*event);
  if (complete && !*complete) return false;
  handles_->tickets.end(ticket, complete ? TicketTable::Reuse::yes : TicketTable::Reuse::no);
  handles_->wake_ups.end(ticket);
  return complete;
}

// Asks first, and again when it was woken, so that errors are told as done() tells them.
Result<bool> CudaDevice::wait(Ticket ticket, std::chrono::nanoseconds most) {
  const auto begin = std::chrono::steady_clock::now();
  FLATBED_ASSIGN(const bool complete, done(ticket));
  if (complete || most <= most.zero()) return complete;
  if (const auto event = handles_->tickets.find(ticket); event && *event != nullptr) {
    std::call_once(wake_ups_open_, [this] {
      static_cast<void>(thread_.run([this] { handles_->wake_ups.open(); }));
    });
    handles_->wake_ups.wait(ticket, *event, most);
  }
  // Where it is still not complete although there is time left, CUDA wakes nobody.
  return Device::wait(ticket, most - (std::chrono::steady_clock::now() - begin));
}

// Neither query depends on the current device.
Result<bool> CudaDevice::is_complete(cudaEvent_t event) const {
  const cudaError_t status = event != nullptr ? api_.EventQuery(event) : api_.StreamQuery(stream_);
  if (status == cudaSuccess) return true;
  if (status != cudaErrorNotReady) {
    return error(status, event != nullptr ? "cudaEventQuery" : "cudaStreamQuery");
  }
  consume(api_, status);
  return false;
}

// An event may be recorded again while it is pending. Whoever waits for it already keeps waiting
// for its earlier record.
void CudaDevice::forget(Ticket ticket) noexcept {
  handles_->tickets.end(ticket, TicketTable::Reuse::yes);
  handles_->wake_ups.end(ticket);
}

void* CudaDevice::native_event(Ticket ticket) noexcept {
  return handles_->tickets.find(ticket).value_or(nullptr);
}

// ---- reading back ---------------------------------------------------------------------------

Result<void> CudaDevice::read_back(const std::byte* from, std::span<std::byte> out) {
  if (out.empty()) return {};
  FLATBED_ASSIGN(std::byte* const bounce, take_bounce());
  Result<void> read = read_chunks(from, out, {bounce, limits_.bounce_nbytes});
  // After an error, a copy may still write to the memory. If it does not finish, the memory is
  // leaked.
  const bool timed_out = !read && read.error().code == ErrorCode::device_timeout;
  if (read || (!timed_out && wait_for_all())) keep_bounce(bounce);
  return read;
}

Result<std::byte*> CudaDevice::take_bounce() {
  {
    const std::lock_guard lock(bounce_mutex_);
    if (idle_bounce_ != nullptr) return std::exchange(idle_bounce_, nullptr);
  }
  return stage(limits_.bounce_nbytes);
}

// Page-locking takes longer than small copies, so one buffer stays for the next call.
void CudaDevice::keep_bounce(std::byte* bounce) noexcept {
  {
    const std::lock_guard lock(bounce_mutex_);
    if (idle_bounce_ == nullptr) std::swap(idle_bounce_, bounce);
  }
  if (bounce != nullptr) unstage(bounce, limits_.bounce_nbytes);
}

// In the stream of the copies, and so after them.
Result<void> CudaDevice::read_chunks(const std::byte* from, std::span<std::byte> out,
                                     std::span<std::byte> bounce) {
  bounce =
      bounce.first(std::min(bounce.size(), left_of_segment(bounce.data(), limits_.segment_nbytes)));
  while (!out.empty()) {
    const std::size_t nbytes = std::min(out.size(), bounce.size());
    FLATBED_ASSIGN(const Ticket ticket, thread_.result_of([&]() -> Result<Ticket> {
      if (const cudaError_t status =
              api_.MemcpyAsync(bounce.data(), from, nbytes, cudaMemcpyDeviceToHost, stream_);
          status != cudaSuccess) {
        return error(status, "cudaMemcpyAsync of " + bytes_text(nbytes) + " to the host");
      }
      return fence();
    }));
    FLATBED_TRY(wait_for(ticket));
    std::memcpy(out.data(), bounce.data(), nbytes);
    out = out.subspan(nbytes);
    from += nbytes;
  }
  return {};
}

Result<void> CudaDevice::wait_for_all() {
  FLATBED_ASSIGN(const Ticket ticket, thread_.result_of([&] { return fence(); }));
  return wait_for(ticket);
}

// Pauses on the caller's thread, so that the device's can serve others.
Result<void> CudaDevice::wait_for(Ticket ticket) {
  constexpr std::chrono::microseconds kPause{50};
  const auto deadline = std::chrono::steady_clock::now() + limits_.read_back_timeout;
  for (;;) {
    FLATBED_ASSIGN(const bool complete, thread_.result_of([&] { return done(ticket); }));
    if (complete) return {};
    if (std::chrono::steady_clock::now() >= deadline) break;
    std::this_thread::sleep_for(kPause);
  }
  forget(ticket);
  return Error{ErrorCode::device_timeout, name_ + ": queued work did not finish within " +
                                              std::to_string(limits_.read_back_timeout.count()) +
                                              " ms"};
}

}  // namespace flatbed::cuda

namespace flatbed {

Result<std::unique_ptr<Device>> cuda_device(int ordinal, const CudaDeviceOptions& options) {
  Result<std::shared_ptr<const cuda::CudaApi>> api = cuda::open_cuda_api();
  if (!api) return with_context("cuda:" + std::to_string(ordinal), std::move(api).error());
  return cuda::make_cuda_device(*std::move(api), ordinal, options);
}

}  // namespace flatbed
