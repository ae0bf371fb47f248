#include "ranks/rank_link.hpp"

#include <algorithm>
#include <cstring>
#include <thread>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"

namespace flatbed {

namespace {

// Messages other than data and parts of exchanges are no longer than this.
constexpr std::uint64_t kMaxSmallNbytes = 64 << 10;
constexpr std::size_t kMaxErrorNbytes = 4096;
// How often the ranks say that they are at work, within a deadline.
constexpr int kAliveShare = 8;
// More often, for progress; less often with many ranks, each of which tells all others.
constexpr std::chrono::milliseconds kUsualAlive{250};
constexpr std::size_t kRanksOfUsual = 32;
// One look takes no more announcements than this, so that it ends.
constexpr int kMostAnnounced = 256;

// "rank 2", "ranks 1, 4 and 7".
std::string ranks_text(const std::vector<std::uint32_t>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    if (i != 0) text += i + 1 == ranks.size() ? " and " : ", ";
    text += std::to_string(ranks[i]);
  }
  return text;
}

Bytes end_bytes(std::uint32_t rank, std::string_view text) {
  Bytes bytes(sizeof rank);
  std::memcpy(bytes.data(), &rank, sizeof rank);
  const auto rest = as_bytes(text.substr(0, kMaxErrorNbytes));
  bytes.insert(bytes.end(), rest.begin(), rest.end());
  return bytes;
}

}  // namespace

std::string one_line(std::string_view text) {
  std::string line(text.substr(0, kMaxErrorNbytes));
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return line;
}

std::chrono::milliseconds limited(std::chrono::milliseconds deadline) noexcept {
  return std::clamp<std::chrono::milliseconds>(deadline, deadline.zero(),
                                               std::chrono::hours(24 * 365));
}

void Patience::pause() {
  std::this_thread::sleep_for(pause_);
  pause_ = std::min(2 * pause_, kLongest);
}

bool is_later(std::uint64_t operation, std::uint64_t current) noexcept {
  constexpr std::uint64_t kMany = std::uint64_t{1} << kOperationBits;
  const std::uint64_t ahead = (operation - current) & (kMany - 1);
  return ahead != 0 && ahead < kMany / 2;
}

RankLink::RankLink(Collective& collective, const Options& options)
    : collective_(collective),
      options_(options),
      rank_(collective.rank()),
      operation_(CollectiveAccess::begin_operation(collective)),
      peers_(collective.size()),
      got_further_(Clock::now()),
      said_alive_(got_further_) {
  options_.deadline = limited(options_.deadline);
  for (Peer& peer : peers_) peer.heard = got_further_;
}

RankLink::~RankLink() {
  for (Flight& flight : flights_) {
    if (!collective_.forget(flight.ticket))
      CollectiveAccess::leave(collective_, std::move(flight.bytes));
  }
}

// ---- what arrives -------------------------------------------------------------------------------

Result<bool> RankLink::poll() {
  if (!told_ && options_.cancel != nullptr && *options_.cancel) {
    return Error{ErrorCode::cancelled, "interrupted while ranks were at work together"};
  }
  FLATBED_ASSIGN(const bool announced, take_announced());
  FLATBED_ASSIGN(const bool finished, finish_flights());
  FLATBED_TRY(say_alive());
  FLATBED_TRY(check_peers());
  return announced || finished;
}

Result<bool> RankLink::take_announced() {
  bool any = false;
  std::vector<Incoming> kept = std::exchange(CollectiveAccess::kept(collective_), {});
  for (auto message = kept.begin(); message != kept.end(); ++message) {
    if (Result<void> taken = take(*message); !taken) {  // the others are for a later operation
      std::vector<Incoming>& still = CollectiveAccess::kept(collective_);
      still.insert(still.end(), message + 1, kept.end());
      return std::move(taken).error();
    }
  }
  for (int i = 0; i < kMostAnnounced; ++i) {
    FLATBED_ASSIGN(const std::optional<Incoming> message, collective_.next());
    if (!message) break;
    any = true;
    FLATBED_TRY(take(*message));
  }
  return any;
}

Result<void> RankLink::take(const Incoming& message) {
  if (message.from >= peers_.size() || message.from == rank_) {
    return make_error(ErrorCode::collective_failed, "a message of rank ", message.from,
                      ", which is none of the other ranks of ", peers_.size());
  }
  const MessageTag tag = MessageTag::unpack(message.tag);
  if (tag.kind == MessageKind::user || is_later(tag.operation, operation_)) {
    CollectiveAccess::kept(collective_).push_back(message);
    return {};
  }
  if (tag.operation != operation_) return begin_receive(message, true);
  Peer& peer = peers_[message.from];
  peer.heard = Clock::now();
  if (tag.kind == MessageKind::data) {
    data_.push_back(message);
    return {};
  }
  return begin_receive(message, false);
}

Result<void> RankLink::begin_receive(const Incoming& message, bool dropped) {
  const MessageTag tag = MessageTag::unpack(message.tag);
  const bool large = dropped || tag.kind == MessageKind::gather;
  const std::uint64_t most = large ? kMaxMessageNbytes : kMaxSmallNbytes;
  if (message.nbytes > most) {
    return make_error(ErrorCode::limit_exceeded, "rank ", message.from,
                      ": a message is too large: found ", message.nbytes,
                      " bytes, expected at most ", most);
  }
  Flight flight;
  flight.peer = message.from;
  flight.bytes = std::make_shared<Bytes>(static_cast<std::size_t>(message.nbytes));
  if (!dropped) flight.tag = tag;
  flight.dropped = dropped;
  FLATBED_ASSIGN(flight.ticket, collective_.receive(message, *flight.bytes));
  flights_.push_back(std::move(flight));
  return {};
}

Result<bool> RankLink::finish_flights() {
  bool any = false;
  for (std::size_t i = 0; i < flights_.size();) {
    Result<bool> done = collective_.done(flights_[i].ticket);
    if (done && !*done) {
      ++i;
      continue;
    }
    const Flight flight = std::move(flights_[i]);
    flights_.erase(flights_.begin() + static_cast<std::ptrdiff_t>(i));
    any = true;
    if (!done) {
      return with_context(str_cat("rank ", flight.peer), std::move(done).error());
    }
    if (flight.tag) FLATBED_TRY(act_on(flight));
  }
  return any;
}

Result<void> RankLink::act_on(const Flight& flight) {
  Peer& peer = peers_[flight.peer];
  const Bytes& bytes = *flight.bytes;
  switch (flight.tag->kind) {
    case MessageKind::gather:
      peer.gathered[flight.tag->number] = bytes;
      break;
    case MessageKind::alive:
      peer.progress = std::max(peer.progress, flight.tag->number);
      break;
    case MessageKind::finished:
      peer.finished = true;
      peer.report = bytes;
      break;
    case MessageKind::ended:
      return act_on_end(flight.peer, bytes);
    case MessageKind::lent:
      lent_.push_back({flight.peer, flight.tag->number, bytes});
      break;
    case MessageKind::returned:
      returned_.emplace(flight.peer, flight.tag->number);
      break;
    default:
      return make_error(ErrorCode::collective_failed, "rank ", flight.peer,
                        ": a message of an unknown kind: found ",
                        static_cast<int>(flight.tag->kind), ", expected at most ",
                        static_cast<int>(MessageKind::returned));
  }
  return {};
}

// A rank that ends because another did passes on what it heard: the rank and its error.
Result<void> RankLink::act_on_end(std::uint32_t from, const Bytes& bytes) {
  peers_[from].gave_up = true;
  const bool whole = bytes.size() >= sizeof(std::uint32_t);
  const std::uint32_t at = whole ? load_le32(bytes.data()) : from;
  if (ended_ || (told_ && at == rank_)) return {};  // the answer to what this rank said
  ended_at_ = at < peers_.size() && at != rank_ ? at : from;
  ended_with_ = one_line(as_text(std::span(bytes).subspan(whole ? sizeof at : 0)));
  ended_ = make_error(ErrorCode::collective_ended, "rank ", ended_at_, " ended with ", ended_with_);
  return *ended_;
}

// ---- deadlines ----------------------------------------------------------------------------------

Result<void> RankLink::say_alive() {
  if (!options_.alive || told_) return {};
  const Clock::time_point now = Clock::now();
  const auto usual = kUsualAlive * (1 + peers_.size() / kRanksOfUsual);
  if (now - said_alive_ < std::min<Clock::duration>(usual, options_.deadline / kAliveShare)) {
    return {};
  }
  said_alive_ = now;
  return tell(MessageKind::alive, std::min(progress_, kMaxNumber), {});
}

bool RankLink::is_sending_to(std::uint32_t rank) const {
  return std::ranges::any_of(flights_, [rank](const Flight& flight) {
    return flight.peer == rank && !flight.tag && !flight.dropped;
  });
}

// A rank that has finished is silent, and so are the buffers of its transport. One that has sent
// its part of an exchange may be silent too, unless it does not take this rank's.
Result<void> RankLink::check_peers() {
  const Clock::time_point now = Clock::now();
  std::vector<std::uint32_t> silent;
  for (std::uint32_t i = 0; i < peers_.size(); ++i) {
    Peer& peer = peers_[i];
    if (i == rank_ || peer.finished || peer.gave_up || peer.lost) continue;
    if (!options_.alive && !peer.gathered.empty() && !is_sending_to(i)) continue;
    if (now - peer.heard <= options_.deadline) continue;
    peer.lost = true;
    silent.push_back(i);
  }
  if (!silent.empty()) {
    return make_error(ErrorCode::collective_timeout, ranks_text(silent),
                      silent.size() == 1 ? " was" : " were", " not heard of for ",
                      options_.deadline.count(), " ms");
  }
  return options_.alive ? check_progress(now) : Result<void>();
}

std::uint64_t RankLink::progress_of_all() const noexcept {
  std::uint64_t sum = progress_;
  for (const Peer& peer : peers_) sum += peer.progress;
  return sum;
}

// All ranks answer, but perhaps a message is lost, or a read never ends.
Result<void> RankLink::check_progress(Clock::time_point now) {
  std::uint64_t sum = progress_;
  for (const Peer& peer : peers_)
    sum += peer.progress + (peer.finished ? 1 : 0) + (peer.gave_up ? 1 : 0);
  if (sum != progress_of_all_) {
    progress_of_all_ = sum;
    got_further_ = now;
    return {};
  }
  // What the others have done is known after an eighth of the deadline.
  if (stuck_ || now - got_further_ <= options_.deadline + options_.deadline / kAliveShare * 2) {
    return {};
  }
  stuck_ = true;
  std::vector<std::uint32_t> left;
  for (std::uint32_t i = 0; i < peers_.size(); ++i) {
    Peer& peer = peers_[i];
    if (i == rank_ || peer.finished || peer.gave_up || peer.lost) continue;
    peer.lost = true;
    left.push_back(i);
  }
  for (Peer& peer : peers_) peer.lost = true;  // also for what was sent to those that ended
  return make_error(ErrorCode::collective_timeout, "no rank got any further for ",
                    options_.deadline.count(), " ms",
                    left.empty() ? std::string() : str_cat("; not finished: ", ranks_text(left)));
}

// ---- what is sent -------------------------------------------------------------------------------

Result<void> RankLink::tell(MessageKind kind, std::uint64_t number, Bytes bytes) {
  const auto shared = std::make_shared<Bytes>(std::move(bytes));
  for (std::uint32_t to = 0; to < peers_.size(); ++to) {
    if (to == rank_ || peers_[to].lost) continue;
    FLATBED_TRY(tell_one(to, {kind, operation_, number}, shared));
  }
  return {};
}

Result<void> RankLink::tell_one(std::uint32_t to, const MessageTag& tag,
                                std::shared_ptr<Bytes> bytes) {
  Result<Collective::Ticket> ticket = collective_.send({to, tag.packed()}, *bytes);
  if (!ticket) return with_context(str_cat("rank ", to), std::move(ticket).error());
  flights_.push_back({*ticket, to, std::move(bytes), std::nullopt, false});
  return {};
}

Result<void> RankLink::tell_finished(Bytes report) {
  if (std::exchange(told_, true)) return {};
  return tell(MessageKind::finished, 0, std::move(report));
}

Result<void> RankLink::tell_ended(const Error& error) {
  if (std::exchange(told_, true)) return {};
  const bool of_other = ended_ && error.code == ErrorCode::collective_ended;
  return tell(MessageKind::ended, 0,
              of_other ? end_bytes(ended_at_, ended_with_)
                       : end_bytes(rank_, str_cat(name(error.code), ": ", error.message)));
}

Result<std::vector<Bytes>> RankLink::gather(Bytes bytes) {
  const std::uint64_t number = gathers_++;
  std::vector<Bytes> all(peers_.size());
  all[rank_] = bytes;
  FLATBED_TRY(tell(MessageKind::gather, number, std::move(bytes)));
  Patience patience;
  while (true) {
    FLATBED_ASSIGN(const bool any, poll());
    const bool complete = std::ranges::all_of(peers_, [&](const Peer& peer) {
      return &peer == &peers_[rank_] || peer.gathered.contains(number);
    });
    // What has been sent has left its buffer; received ones may be of what follows.
    const bool sent = std::ranges::all_of(
        flights_, [](const Flight& flight) { return flight.tag || flight.dropped; });
    if (complete && sent) break;
    patience.after(any);
  }
  ++progress_;
  for (std::uint32_t i = 0; i < peers_.size(); ++i) {
    if (i == rank_) continue;
    all[i] = std::move(peers_[i].gathered[number]);
    peers_[i].gathered.erase(number);
  }
  return all;
}

Result<Collective::Ticket> RankLink::send_data(std::uint32_t to, std::uint64_t number,
                                               std::span<const std::byte> bytes) {
  const std::uint64_t tag = MessageTag{MessageKind::data, operation_, number}.packed();
  Result<Collective::Ticket> ticket = collective_.send({to, tag}, bytes);
  return ticket ? std::move(ticket)
                : Result<Collective::Ticket>(
                      with_context(str_cat("rank ", to), std::move(ticket).error()));
}

std::optional<Incoming> RankLink::take_data() {
  if (data_.empty()) return std::nullopt;
  const Incoming message = data_.front();
  data_.pop_front();
  return message;
}

Result<void> RankLink::begin_drop(const Incoming& message) { return begin_receive(message, true); }

Result<void> RankLink::lend(std::uint32_t to, std::uint64_t number, Bytes places) {
  return tell_one(to, {MessageKind::lent, operation_, number},
                  std::make_shared<Bytes>(std::move(places)));
}

bool RankLink::is_returned(std::uint32_t by, std::uint64_t number) {
  return returned_.erase({by, number}) != 0;
}

std::optional<RankLink::Lent> RankLink::take_lent() {
  if (lent_.empty()) return std::nullopt;
  Lent lent = std::move(lent_.front());
  lent_.pop_front();
  return lent;
}

Result<void> RankLink::give_back(std::uint32_t to, std::uint64_t number) {
  return tell_one(to, {MessageKind::returned, operation_, number}, std::make_shared<Bytes>());
}

std::size_t RankLink::drops() const noexcept {
  return static_cast<std::size_t>(std::ranges::count_if(flights_, &Flight::dropped));
}

bool RankLink::all_ended() const noexcept {
  if (stuck_) return true;
  const auto lost = [this](std::uint32_t rank) { return peers_[rank].lost; };
  for (std::uint32_t i = 0; i < peers_.size(); ++i) {
    if (i != rank_ && !peers_[i].finished && !peers_[i].gave_up && !lost(i)) return false;
  }
  return std::ranges::all_of(flights_, [&](const Flight& each) { return lost(each.peer); }) &&
         std::ranges::all_of(data_, [&](const Incoming& each) { return lost(each.from); }) &&
         std::ranges::all_of(lent_, [&](const Lent& each) { return lost(each.from); });
}

}  // namespace flatbed
