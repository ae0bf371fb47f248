// The fake's execution of what is queued: in the caller's thread, as the stream's fiber, or in a
// thread of the stream.
#include <algorithm>
#include <cstring>
#include <vector>

#include "support/fake_cuda_state.hpp"

namespace flatbed::fake_cuda {
namespace {

constexpr std::size_t kAllPieces = std::numeric_limits<std::size_t>::max();

// What the thread sanitizer sees of an operation: who it comes after, what it touches, and what
// may come after it.
void touch(const State& state, Op& op, std::size_t first, std::size_t count) {
  acquire_edge(&op.edge);
  if (op.kind == Op::Kind::wait) acquire_edge(&op.capture->edge);
  if (op.kind == Op::Kind::copy) state.copy_pieces(op, first, count);
  if (op.kind == Op::Kind::read && !op.failed && state.options.move_bytes) {
    // Not on the stack, which the thread sanitizer sees two threads use: the caller and the fiber.
    std::vector<std::byte> scratch(4096);
    for (std::size_t at = 0; at < op.rows.width; at += scratch.size()) {
      std::memcpy(scratch.data(), op.from_view + at, std::min(scratch.size(), op.rows.width - at));
    }
  }
  if (op.kind == Op::Kind::write && !op.failed && state.options.move_bytes) {
    std::memset(op.to_view, static_cast<int>(op.written), op.rows.width);
  }
  // Under the fake's lock, except in a thread of its own: it must not wait for a thread that calls
  // CUDA.
  if (op.kind == Op::Kind::call && !op.failed) op.function(op.argument);
  if (op.kind == Op::Kind::record) release_edge(&op.capture->edge);
  release_edge(&op.stream->edge);
}

}  // namespace

void State::perform(Op& op, std::size_t first, std::size_t count) const {
  if (options.schedule == FakeSchedule::threads) {
    const Loud loud;
    touch(*this, op, first, count);
    return;
  }
  const AsFiber fiber(op.stream->fiber);
  touch(*this, op, first, count);
}

bool State::can_run_head(const Stream& stream) const {
  if (sticky != cudaSuccess || stream.queue.empty()) return false;
  const Op& op = *stream.queue.front();
  return !op.stuck && (op.kind != Op::Kind::wait || op.capture->done);
}

std::size_t State::run_head(Stream& stream, std::size_t pieces) {
  if (!can_run_head(stream)) return 0;
  const std::shared_ptr<Op> op = stream.queue.front();
  const std::size_t total = op->kind == Op::Kind::copy ? piece_count(*op) : 1;
  const std::size_t count = std::min(pieces, total - op->pieces_done);
  if (op->pieces_done == 0) begin_op(*op);
  perform(*op, op->pieces_done, count);
  op->pieces_done += count;
  if (op->pieces_done == total) end_op(*op);
  return count;
}

void State::begin_op(Op& op) {
  if (op.kind == Op::Kind::copy) check_source(op, "when it ran");
  if (op.kind == Op::Kind::read) check_read(op);
}

void State::end_op(Op& op) {
  if (op.kind == Op::Kind::copy && !op.failed) {
    check_source(op, "after it ran");
    for (std::size_t row = 0; row < op.rows.height; ++row) {
      count_writes(op.rows.to + row * op.rows.to_pitch, op.rows.width);
    }
  }
  if (op.kind == Op::Kind::record) op.capture->done = true;
  op.stream->queue.pop_front();
}

void State::check_read(const Op& op) {
  const Allocation* const block = find(op.rows.from);
  if (block == nullptr || block->write_counts == nullptr) return;
  const std::uint8_t* const counts = block->write_counts + (op.rows.from - block->data);
  const auto unwritten = std::count(counts, counts + op.rows.width, 0);
  if (unwritten == 0) return;
  add(Entry::misuse, text("the engine's stream ", op.stream->number, " reads ", unwritten,
                          " bytes of ", describe(*block), " that were never written"));
}

bool State::run_to(Stream& stream, std::uint64_t number) {
  while (!stream.queue.empty() && stream.queue.front()->number <= number) {
    if (options.schedule == FakeSchedule::threads) {
      if (sticky != cudaSuccess || stream.queue.front()->stuck) return false;
      changed.wait(mutex);
      continue;
    }
    const std::shared_ptr<Op> op = stream.queue.front();
    if (op->kind == Op::Kind::wait && !op->capture->done &&
        !run_to(*op->capture->stream, op->capture->number)) {
      return false;
    }
    if (run_head(stream, kAllPieces) == 0) return false;
  }
  return true;
}

std::size_t State::run_oldest(std::size_t pieces) {
  std::size_t ran = 0;
  while (ran < pieces) {
    Stream* oldest = nullptr;
    for (Stream* const stream : streams_by_number) {
      if (!can_run_head(*stream)) continue;
      if (oldest == nullptr || stream->queue.front()->number < oldest->queue.front()->number) {
        oldest = stream;
      }
    }
    if (oldest == nullptr) break;
    ran += run_head(*oldest, pieces - ran);
  }
  return ran;
}

void State::run_random() {
  std::vector<Stream*> ready;
  for (std::uint64_t turns = random() % 4; turns > 0; --turns) {
    ready.clear();
    for (Stream* const stream : streams_by_number) {
      if (can_run_head(*stream)) ready.push_back(stream);
    }
    if (ready.empty()) return;
    run_head(*ready[random() % ready.size()], std::size_t{1} << (random() % 6));
  }
}

void State::run_all() {
  for (Stream* const stream : streams_by_number) run_to(*stream, stream->last_number);
}

void State::work(Stream& stream) {
  const Quiet quiet;
  const std::lock_guard lock(mutex);
  while (!stopping) {
    if (!can_run_head(stream)) {
      changed.wait(mutex);
      continue;
    }
    const std::shared_ptr<Op> op = stream.queue.front();
    begin_op(*op);
    mutex.unlock();
    perform(*op, 0, op->kind == Op::Kind::copy ? piece_count(*op) : 1);
    mutex.lock();
    end_op(*op);
    changed.notify_all();
  }
}

void State::stop_workers() {
  {
    const std::lock_guard lock(mutex);
    stopping = true;
    changed.notify_all();
  }
  for (Stream* const stream : streams_by_number) {
    if (stream->worker.joinable()) stream->worker.join();
  }
}

}  // namespace flatbed::fake_cuda
