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
  auto capture = std::make_shared<Capture>();
  const Op& op = enqueue(stream, {.kind = Op::Kind::record, .capture = capture});
  capture->stream = &stream;
  capture->number = op.number;
  capture->before = stream.before;
  capture->complete_at_ns = stream.complete_at_ns;
  capture->not_ready_left = options.not_ready_queries;
  event.capture = std::move(capture);
  after_submit();
  return cudaSuccess;
}

void State::wait(Stream& stream, const Event& event) {
  if (event.capture == nullptr) return;
  enqueue(stream, {.kind = Op::Kind::wait, .capture = event.capture});
  merge(stream.before, event.capture->before);
  stream.complete_at_ns = std::max(stream.complete_at_ns, event.capture->complete_at_ns);
  after_submit();
}

void State::engine_read(Stream& stream, const std::byte* from, std::size_t nbytes) {
  Allocation* block = nullptr;
  if (const std::string wrong = check_range(from, nbytes, &block); !wrong.empty()) {
    add(Entry::misuse, text("the engine's read of ", nbytes, " bytes ", wrong));
    return;
  }
  for (const Stream* const other : streams_by_number) {
    for (const auto& op : other->unseen) {
      const auto ordered = stream.before.find(other->number);
      if (ordered != stream.before.end() && ordered->second >= op->number) continue;
      if (!overlaps_rows(op->rows, from, nbytes)) continue;
      add(Entry::misuse, text("the engine's stream ", stream.number, " reads bytes of ",
                              describe(*block), " that copy ", op->number, " in stream ",
                              other->number, " has not been waited for to write"));
    }
  }
  Op op{.kind = Op::Kind::read};
  op.rows = {.from = from, .width = nbytes, .height = 1};
  op.from_view = block->view + (from - block->data);
  enqueue(stream, std::move(op));
  reads.push_back(stream.queue.back());
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
  std::erase_if(reads, [&before](const auto& read) {
    const auto seen = before.find(read->stream->number);
    return seen != before.end() && seen->second >= read->number;
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
