#include "load/load_ahead.hpp"

#include <algorithm>
#include <utility>

namespace flatbed {

namespace {

constexpr std::uint64_t round_down(std::uint64_t at) { return at - at % kDirectAlignment; }
constexpr std::uint64_t round_up(std::uint64_t at) { return round_down(at + kDirectAlignment - 1); }

}  // namespace

LoadAhead::~LoadAhead() {
  while (!empty()) drop();
}

void LoadAhead::begin(const Flight& flight, LoadFile& file) {
  const Job& job = *flight.job;
  Under& under = flights_.emplace_back();
  under.flight = flight;
  under.file = &file;
  under.reached = job.begin;
  under.serial = serial_++;
  nbytes_ += job.nbytes;
  if (Result<std::shared_ptr<const DirectFile>> direct = file.past_cache())
    under.direct = *std::move(direct);
  const bool around = flight.slot.has_value();
  const std::uint64_t end = job.begin + job.nbytes;
  const std::uint64_t last = around ? round_up(end) : round_down(end);
  for (std::uint64_t at = around ? round_down(job.begin) : round_up(job.begin); at < last;) {
    // The last block around a slot is not worth a read of its own.
    const bool is_last = last - at <= kAheadPieceNbytes + kDirectAlignment;
    const std::uint64_t to = is_last ? last : at + kAheadPieceNbytes;
    under.pieces.push_back({at, to});
    at = to;
  }
  send();
}

// Gives the queue what it takes, the oldest first.
void LoadAhead::send() {
  for (Under& under : flights_) {
    if (!under.direct) continue;
    for (; under.next_sent < under.pieces.size(); ++under.next_sent) {
      Piece& piece = under.pieces[under.next_sent];
      // The first block of a slot begins before the job.
      const auto from = static_cast<std::ptrdiff_t>(piece.begin - under.flight.job->begin);
      const std::span<std::byte> out(under.flight.at + from,
                                     static_cast<std::size_t>(piece.end - piece.begin));
      const std::uint64_t tag = under.serial << 32 | under.next_sent;
      if (!queue_.begin({under.direct->descriptor(), piece.begin, out, tag})) return;
      piece.sent = true;
      ++under_way_;
    }
  }
}

void LoadAhead::take_one() {
  const ReadQueue::Ended ended = queue_.wait();
  Under& under = flights_[(ended.tag >> 32) - flights_.front().serial];
  Piece& piece = under.pieces[ended.tag & UINT32_MAX];
  piece.result = ended.result;
  piece.ended = true;
  --under_way_;
}

Result<std::uint64_t> LoadAhead::next() {
  Under& under = flights_.front();
  const std::uint64_t end = under.flight.job->begin + under.flight.job->nbytes;
  if (under.next == under.pieces.size()) {
    FLATBED_TRY(read_to(under, end));  // after the last whole block
    return end;
  }
  Piece& piece = under.pieces[under.next++];
  FLATBED_TRY(read_to(under, std::min(piece.begin, end)));  // before the first
  while (!piece.ended) {
    send();
    if (under_way_ == 0) break;
    take_one();
  }
  if (!piece.sent) ++under.next_sent;  // the queue takes nothing now, and this one is settled here
  send();
  FLATBED_TRY(settle(under, piece));
  return under.reached;
}

Result<void> LoadAhead::settle(Under& under, const Piece& piece) {
  const std::uint64_t end = under.flight.job->begin + under.flight.job->nbytes;
  const std::uint64_t wanted = std::min(piece.end, end);
  const std::uint64_t got = piece.result > 0 ? static_cast<std::uint64_t>(piece.result) : 0;
  if (piece.begin + got < wanted) return read_to(under, wanted);
  under.file->count(got);
  under.reached = wanted;
  return {};
}

// In the usual way, which also tells a failure apart from what passes.
Result<void> LoadAhead::read_to(Under& under, std::uint64_t end) {
  if (end <= under.reached) return {};
  const std::uint64_t from = under.reached - under.flight.job->begin;
  const std::span<std::byte> out(under.flight.at + from,
                                 static_cast<std::size_t>(end - under.reached));
  FLATBED_TRY(under.file->read_within(under.reached, out));
  under.reached = end;
  return {};
}

void LoadAhead::drop() {
  Under& under = flights_.front();
  // What was not sent stays so.
  under.next_sent = under.pieces.size();
  while (std::ranges::any_of(under.pieces,
                             [](const Piece& piece) { return piece.sent && !piece.ended; })) {
    take_one();
  }
  nbytes_ -= under.flight.job->nbytes;
  flights_.pop_front();
}

}  // namespace flatbed
