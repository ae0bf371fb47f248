// The functions that wait for messages of a Collective.
#include "flatbed/collective.hpp"

#include <string_view>
#include <utility>

#include "base/str_cat.hpp"
#include "ranks/rank_link.hpp"

namespace flatbed {

namespace {

using Clock = RankLink::Clock;

constexpr std::string_view kLate = "a message was begun and not completed in time";

// Waits for a ticket whose buffer is `bytes`, and leaves the buffer to the collective if it is in
// use for longer.
Result<void> wait_for(Collective& collective, Collective::Ticket ticket,
                      std::shared_ptr<Bytes> bytes, Clock::time_point end) {
  Patience patience;
  while (true) {
    FLATBED_ASSIGN(const bool done, collective.done(ticket));
    if (done) return {};
    if (Clock::now() >= end) break;
    patience.pause();
  }
  if (!collective.forget(ticket)) CollectiveAccess::leave(collective, std::move(bytes));
  return make_error(ErrorCode::collective_timeout, kLate);
}

// The next message of send_message(). Those of operations are kept, or dropped if they are over.
Result<std::optional<Incoming>> next_of_user(Collective& collective) {
  std::vector<Incoming>& kept = CollectiveAccess::kept(collective);
  const auto is_of_user = [](const Incoming& message) {
    return MessageTag::unpack(message.tag).kind == MessageKind::user;
  };
  while (true) {
    for (auto each = kept.begin(); each != kept.end(); ++each) {
      if (!is_of_user(*each)) continue;
      const Incoming message = *each;
      kept.erase(each);
      return std::optional(message);
    }
    FLATBED_ASSIGN(const std::optional<Incoming> message, collective.next());
    if (!message) return std::optional<Incoming>();
    kept.push_back(*message);
  }
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
    FLATBED_ASSIGN(const std::optional<Incoming> found, next_of_user(collective));
    if (!found) {
      if (Clock::now() >= end) break;
      patience.pause();
      continue;
    }
    if (found->nbytes > kMaxMessageNbytes) {
      return make_error(ErrorCode::limit_exceeded, "rank ", found->from,
                        ": a message is too large: found ", found->nbytes,
                        " bytes, expected at most ", kMaxMessageNbytes);
    }
    const auto bytes = std::make_shared<Bytes>(static_cast<std::size_t>(found->nbytes));
    FLATBED_ASSIGN(const Collective::Ticket ticket, collective.receive(*found, *bytes));
    FLATBED_TRY(wait_for(collective, ticket, bytes, end));
    return Message{found->from, found->tag, std::move(*bytes)};
  }
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
