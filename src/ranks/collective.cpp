// The functions that wait for messages of a Collective.
#include "flatbed/collective.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/str_cat.hpp"
#include "ranks/rank_link.hpp"

namespace flatbed {

namespace {

using Clock = RankLink::Clock;

constexpr std::string_view kLate = "a message was begun and not completed in time";

// The next message of send_message() that can be received: none of its rank is being received. The
// others are kept.
Result<std::optional<Incoming>> next_of_user(Collective& collective) {
  std::vector<Incoming>& kept = CollectiveAccess::kept(collective);
  const std::vector<CollectiveAccess::Begun>& begun = CollectiveAccess::begun(collective);
  const auto can_be_received = [&begun](const Incoming& message) {
    return MessageTag::unpack(message.tag).kind == MessageKind::user &&
           std::ranges::find(begun, message.from, &CollectiveAccess::Begun::from) == begun.end();
  };
  while (true) {
    const auto found = std::ranges::find_if(kept, can_be_received);
    if (found != kept.end()) {
      const Incoming message = *found;
      kept.erase(found);
      return std::optional(message);
    }
    FLATBED_ASSIGN(const std::optional<Incoming> message, collective.next());
    if (!message) return std::optional<Incoming>();
    kept.push_back(*message);
  }
}

// Begins to receive what has been announced: of each rank one message at a time, which keeps their
// order, while a rank that does not send its bytes keeps no other one waiting.
Result<void> begin_receives(Collective& collective) {
  while (true) {
    FLATBED_ASSIGN(const std::optional<Incoming> found, next_of_user(collective));
    if (!found) return {};
    if (found->nbytes > kMaxMessageNbytes) {
      return make_error(ErrorCode::limit_exceeded, "rank ", found->from,
                        ": a message is too large: found ", found->nbytes,
                        " bytes, expected at most ", kMaxMessageNbytes);
    }
    const auto bytes = std::make_shared<Bytes>(static_cast<std::size_t>(found->nbytes));
    FLATBED_ASSIGN(const Collective::Ticket ticket, collective.receive(*found, *bytes));
    CollectiveAccess::begun(collective).push_back({found->from, found->tag, ticket, bytes});
  }
}

// A message that has arrived, if there is one.
Result<std::optional<Message>> take_received(Collective& collective) {
  std::vector<CollectiveAccess::Begun>& begun = CollectiveAccess::begun(collective);
  for (auto each = begun.begin(); each != begun.end(); ++each) {
    const Result<bool> done = collective.done(each->ticket);
    if (done && !*done) continue;
    const CollectiveAccess::Begun ended = std::move(*each);
    begun.erase(each);
    if (!done) return with_context(str_cat("rank ", ended.from), done.error());
    return std::optional(Message{ended.from, ended.tag, std::move(*ended.bytes)});
  }
  return std::optional<Message>();
}

}  // namespace

Collective::~Collective() = default;

std::uint32_t Collective::node(std::uint32_t rank) const noexcept { return rank; }

std::span<std::byte> Collective::shared_memory(std::uint32_t /*rank*/) noexcept { return {}; }

PendingMessage::PendingMessage(PendingMessage&& other) noexcept
    : collective_(std::exchange(other.collective_, nullptr)),
      to_(other.to_),
      ticket_(other.ticket_),
      bytes_(std::move(other.bytes_)) {}

PendingMessage& PendingMessage::operator=(PendingMessage&& other) noexcept {
  if (this == &other) return *this;
  forget();
  collective_ = std::exchange(other.collective_, nullptr);
  to_ = other.to_;
  ticket_ = other.ticket_;
  bytes_ = std::move(other.bytes_);
  return *this;
}

PendingMessage::~PendingMessage() { forget(); }

// Leaves the bytes to the collective if they are in use for longer.
void PendingMessage::forget() noexcept {
  if (collective_ == nullptr) return;
  Collective& collective = *std::exchange(collective_, nullptr);
  if (!collective.forget(ticket_)) CollectiveAccess::leave(collective, std::move(bytes_));
}

Result<bool> PendingMessage::done() {
  if (collective_ == nullptr) return true;
  Result<bool> done = collective_->done(ticket_);
  if (!done || *done) collective_ = nullptr;
  return done ? std::move(done)
              : Result<bool>(with_context(str_cat("rank ", to_), std::move(done).error()));
}

Result<PendingMessage> begin_message(Collective& collective, const MessageAddress& address,
                                     std::span<const std::byte> bytes) {
  if (address.to >= collective.size() || address.to == collective.rank()) {
    return make_error(ErrorCode::invalid_argument, "rank ", address.to,
                      " is not another one of the ", collective.size(), " ranks");
  }
  if (address.tag >= kMaxMessageTag) {
    return make_error(ErrorCode::invalid_argument, "the tag of a message is too large: found ",
                      address.tag, ", expected at most ", kMaxMessageTag - 1);
  }
  if (bytes.size() > kMaxMessageNbytes) {
    return make_error(ErrorCode::invalid_argument, "a message is too large: found ", bytes.size(),
                      " bytes, expected at most ", kMaxMessageNbytes);
  }
  PendingMessage message;
  message.to_ = address.to;
  message.bytes_ = std::make_shared<Bytes>(bytes.begin(), bytes.end());
  FLATBED_ASSIGN(message.ticket_, collective.send(address, *message.bytes_));
  message.collective_ = &collective;
  return message;
}

Result<void> send_message(Collective& collective, const MessageAddress& address,
                          std::span<const std::byte> bytes, std::chrono::milliseconds deadline) {
  const Clock::time_point end = Clock::now() + limited(deadline);
  FLATBED_ASSIGN(PendingMessage message, begin_message(collective, address, bytes));
  Patience patience;
  while (true) {
    FLATBED_ASSIGN(const bool done, message.done());
    if (done) return {};
    if (Clock::now() >= end) break;
    patience.pause();
  }
  return make_error(ErrorCode::collective_timeout, "rank ", address.to, ": ", kLate);
}

Result<Message> next_message(Collective& collective, std::chrono::milliseconds deadline) {
  const Clock::time_point end = Clock::now() + limited(deadline);
  Patience patience;
  while (true) {
    FLATBED_TRY(begin_receives(collective));
    FLATBED_ASSIGN(std::optional<Message> message, take_received(collective));
    if (message) return *std::move(message);
    if (Clock::now() >= end) break;
    patience.pause();
  }
  const std::vector<CollectiveAccess::Begun>& begun = CollectiveAccess::begun(collective);
  if (!begun.empty())
    return make_error(ErrorCode::collective_timeout, "rank ", begun.front().from, ": ", kLate);
  return make_error(ErrorCode::collective_timeout, "no message arrived within ", deadline.count(),
                    " ms");
}

Result<std::vector<std::vector<std::byte>>> all_gather(Collective& collective,
                                                       std::span<const std::byte> bytes,
                                                       std::chrono::milliseconds deadline) {
  RankLink link(collective, {.deadline = deadline, .alive = false});  // counts, whatever comes
  if (bytes.size() > kMaxMessageNbytes) {
    return make_error(ErrorCode::invalid_argument, "a message is too large: found ", bytes.size(),
                      " bytes, expected at most ", kMaxMessageNbytes);
  }
  return link.gather(Bytes(bytes.begin(), bytes.end()));
}

}  // namespace flatbed
