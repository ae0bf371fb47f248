// The fake's streams and events: what is queued in which order, and what a query says.
#include <algorithm>
#include <utility>

#include "support/fake_cuda_state.hpp"

namespace flatbed::fake_cuda {

void merge(Clock& into, const Clock& from) {
  for (const auto& [stream, number] : from) into[stream] = std::max(into[stream], number);
}

Stream& State::make_stream(int device, bool engine) {
  auto made = std::make_unique<Stream>();
  Stream& stream = *made;
  stream.number = static_cast<int>(streams_by_number.size()) + 1;
  stream.device = device;
  stream.engine = engine;
  streams_by_number.push_back(&stream);
  streams.emplace(&stream, std::move(made));
  if (options.schedule == FakeSchedule::threads) {
    stream.worker = std::thread([this, &stream] { work(stream); });
  }
  return stream;
}

Event& State::make_event(int device, bool engine) {
  auto made = std::make_unique<Event>();
  Event& event = *made;
  event.number = static_cast<int>(events.size()) + 1;
  event.device = device;
  event.engine = engine;
  events.emplace(&event, std::move(made));
  return event;
}

Stream& State::default_stream(cudaStream_t handle) {
  const bool legacy = handle == cudaStreamLegacy;
  const int device = thread_state(*this).device;
  const std::thread::id owner = legacy ? std::thread::id() : std::this_thread::get_id();
  Stream*& stream = default_streams[{device, owner}];
  if (stream == nullptr) {
    stream = &make_stream(device, true);
    stream->kind = legacy ? Stream::Kind::legacy : Stream::Kind::blocking;
  }
  return *stream;
}

Stream* State::find_any_stream(cudaStream_t handle, std::string_view call) {
  if (handle == cudaStreamLegacy || handle == cudaStreamPerThread) return &default_stream(handle);
  return find_stream(handle, call);
}

// A null handle means the legacy or the per-thread stream, as the caller was compiled, and so
// nothing that a library may rely on.
Stream* State::find_stream(cudaStream_t handle, std::string_view call) {
  if (handle == nullptr || handle == cudaStreamLegacy || handle == cudaStreamPerThread) {
    add(Entry::misuse, text("cuda", call, " used the legacy or the per-thread stream"));
    return nullptr;
  }
  const auto found = streams.find(handle);
  if (found != streams.end() && found->second->live) return found->second.get();
  add(Entry::misuse, found == streams.end() ? text("cuda", call, " of a stream that never was")
                                            : text("cuda", call, " of stream ",
                                                   found->second->number, ", which was destroyed"));
  return nullptr;
}

Event* State::find_event(cudaEvent_t handle, std::string_view call) {
  const auto found = events.find(handle);
  if (found != events.end() && found->second->live) return found->second.get();
  add(Entry::misuse, found == events.end() ? text("cuda", call, " of an event that never was")
                                           : text("cuda", call, " of event ", found->second->number,
                                                  ", which was destroyed"));
  return nullptr;
}

Op& State::enqueue(Stream& stream, Op op) {
  order_with_legacy(stream);
  return push(stream, std::move(op));
}

void State::order_with_legacy(Stream& stream) {
  using Kind = Stream::Kind;
  if (stream.kind == Kind::non_blocking) return;
  const Kind others = stream.kind == Kind::legacy ? Kind::blocking : Kind::legacy;
  for (Stream* const other : std::vector<Stream*>(streams_by_number)) {
    if (other->kind != others || other->device != stream.device || !other->live) continue;
    if (stream.before[other->number] >= other->last_number) continue;
    auto capture = mark(*other);
    merge(stream.before, capture->before);
    stream.complete_at_ns = std::max(stream.complete_at_ns, capture->complete_at_ns);
    push(stream, {.kind = Op::Kind::wait, .capture = std::move(capture)});
  }
}

Op& State::push(Stream& stream, Op op) {
  op.number = ++last_number;
  op.stream = &stream;
  if (!stream.engine && next_fails) {
    stream.failures.push_back({op.number, next_fails->code, next_fails->forever});
    op.failed = true;
    next_fails.reset();
  }
  if (!stream.engine) op.stuck = std::exchange(next_is_stuck, false);
  stream.last_number = op.number;
  stream.before[stream.number] = op.number;
  stream.not_ready_left = options.not_ready_queries;
  auto queued = std::make_shared<Op>(std::move(op));
  {
    const Loud loud;  // the caller's earlier actions happen before the operation
    release_edge(&queued->edge);
  }
  stream.queue.push_back(queued);
  return *queued;
}

void State::after_submit() {
  if (options.schedule == FakeSchedule::eager) run_all();
  if (options.schedule == FakeSchedule::threads) changed.notify_all();
}

cudaError_t State::record(Event& event, Stream& stream) {
  if (event.device != stream.device) {
    add(Entry::misuse, text("cudaEventRecord of event ", event.number, " of device ", event.device,
                            " in stream ", stream.number, " of device ", stream.device));
    return cudaErrorInvalidResourceHandle;
  }
  order_with_legacy(stream);
  event.capture = mark(stream);
  after_submit();
  return cudaSuccess;
}

// Records what the stream holds.
std::shared_ptr<Capture> State::mark(Stream& stream) {
  auto capture = std::make_shared<Capture>();
  const Op& op = push(stream, {.kind = Op::Kind::record, .capture = capture});
  capture->stream = &stream;
  capture->number = op.number;
  capture->before = stream.before;
  capture->complete_at_ns = stream.complete_at_ns;
  capture->not_ready_left = options.not_ready_queries;
  return capture;
}

void State::wait(Stream& stream, const Event& event) {
  if (event.capture == nullptr) {
    add(Entry::note, text("stream ", stream.number, " does not wait for event ", event.number,
                          ", which was never recorded"));
    return;
  }
  enqueue(stream, {.kind = Op::Kind::wait, .capture = event.capture});
  merge(stream.before, event.capture->before);
  stream.complete_at_ns = std::max(stream.complete_at_ns, event.capture->complete_at_ns);
  after_submit();
}

void State::engine_kernel(Stream& stream, Op op) {
  const bool reads = op.kind == Op::Kind::read;
  const std::byte* const at = reads ? op.rows.from : op.rows.to;
  const std::size_t nbytes = op.rows.width;
  Allocation* block = nullptr;
  if (const std::string wrong = check_range(at, nbytes, &block); !wrong.empty()) {
    add(Entry::misuse,
        text("the engine's ", reads ? "read" : "write", " of ", nbytes, " bytes ", wrong));
    return;
  }
  order_with_legacy(stream);
  for (const Stream* const other : streams_by_number) {
    for (const auto& copy : other->unseen) {
      const auto ordered = stream.before.find(other->number);
      if (ordered != stream.before.end() && ordered->second >= copy->number) continue;
      if (!overlaps_rows(copy->rows, at, nbytes)) continue;
      add(Entry::misuse, text("the engine's stream ", stream.number, reads ? " reads" : " writes",
                              " bytes of ", describe(*block), " that copy ", copy->number,
                              " in stream ", other->number, " has not been waited for to write"));
    }
  }
  std::byte* const view = block->view + (at - block->data);
  op.from_view = view;
  op.to_view = view;
  push(stream, std::move(op));
  kernels.push_back(stream.queue.back());
  after_submit();
}

cudaError_t State::query(const std::shared_ptr<Capture>& capture) {
  if (capture == nullptr) return cudaSuccess;  // never recorded
  if (capture->stuck) return cudaErrorNotReady;
  if (capture->not_ready_left > 0) {
    --capture->not_ready_left;
    return cudaErrorNotReady;
  }
  if (options.now_ns && now_ns < capture->complete_at_ns) return cudaErrorNotReady;
  if (options.schedule == FakeSchedule::lazy) run_to(*capture->stream, capture->number);
  if (!capture->done) return cudaErrorNotReady;
  if (const cudaError_t failure = take_failure(capture->before); failure != cudaSuccess) {
    return failure;
  }
  {
    const Loud loud;
    acquire_edge(&capture->edge);
  }
  see(capture->before);
  return cudaSuccess;
}

cudaError_t State::query(Stream& stream) {
  if (stream.never_ready) return cudaErrorNotReady;
  if (stream.not_ready_left > 0) {
    --stream.not_ready_left;
    return cudaErrorNotReady;
  }
  if (options.now_ns && now_ns < stream.complete_at_ns) return cudaErrorNotReady;
  if (options.schedule == FakeSchedule::lazy) run_to(stream, stream.last_number);
  if (!stream.queue.empty()) return cudaErrorNotReady;
  if (const cudaError_t failure = take_failure(stream.before); failure != cudaSuccess) {
    return failure;
  }
  {
    const Loud loud;
    acquire_edge(&stream.edge);
  }
  see(stream.before);
  return cudaSuccess;
}

void State::see(const Clock& before) {
  std::erase_if(kernels, [&before](const auto& kernel) {
    const auto seen = before.find(kernel->stream->number);
    return seen != before.end() && seen->second >= kernel->number;
  });
  for (const auto& [number, last] : before) {
    auto& unseen = streams_by_number[static_cast<std::size_t>(number - 1)]->unseen;
    while (!unseen.empty() && unseen.front()->number <= last) {
      Op& op = *unseen.front();
      check_source(op, "when it was seen complete");
      protect(op, false);
      unclaim_destination(op);
      unseen.pop_front();
    }
  }
}

bool State::any_unseen(const Clock& before) const {
  return std::any_of(before.begin(), before.end(), [this](const auto& entry) {
    const auto& unseen = streams_by_number[static_cast<std::size_t>(entry.first - 1)]->unseen;
    return !unseen.empty() && unseen.front()->number <= entry.second;
  });
}

cudaError_t State::take_failure(const Clock& before) {
  for (const auto& [number, last] : before) {
    auto& failures = streams_by_number[static_cast<std::size_t>(number - 1)]->failures;
    for (auto failure = failures.begin(); failure != failures.end(); ++failure) {
      if (failure->number > last) continue;
      const cudaError_t code = failure->code;
      if (!failure->forever) failures.erase(failure);
      return code;
    }
  }
  return cudaSuccess;
}

}  // namespace flatbed::fake_cuda
