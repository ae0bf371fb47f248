// RankLink: one operation of all ranks over a Collective, as one of them sees it: an exchange of
// small messages, then data, then how each of them ended. It notices ranks that have stopped
// answering, and never waits without a limit.
//
// A tag says what a message is:
//
//   bits 60..63   MessageKind
//   bits 46..59   the operation: load_together() and all_gather() count up on every rank
//   bits 0..45    a number: of the exchange, or of the data
//
// Messages of an earlier operation, which has failed, are received and dropped. Those of a later
// one, which another rank has begun already, are kept for it.
//
// For the one thread that may call the Collective, which it borrows. Buffers that the transport may
// still use when the operation ends are left to the Collective.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flatbed/collective.hpp"

namespace flatbed {

using Bytes = std::vector<std::byte>;

enum class MessageKind : std::uint8_t {
  user,      // of send_message()
  gather,    // a part of an exchange
  data,      // bytes of tensors
  alive,     // the sender is at work; its progress so far
  finished,  // the sender has all it wants, and sends nothing more; its report
  ended,     // the sender has given up; its error
  lent,      // bytes of tensors lie in memory that both ranks share; where
  returned,  // what was lent may change
};

inline constexpr unsigned kNumberBits = 46;
inline constexpr unsigned kOperationBits = 14;
inline constexpr std::uint64_t kMaxNumber = (std::uint64_t{1} << kNumberBits) - 1;

struct MessageTag {
  MessageKind kind = MessageKind::user;
  std::uint64_t operation = 0;  // modulo 2^14
  std::uint64_t number = 0;

  [[nodiscard]] std::uint64_t packed() const noexcept {
    return static_cast<std::uint64_t>(kind) << (kNumberBits + kOperationBits) |
           operation << kNumberBits | number;
  }
  [[nodiscard]] static MessageTag unpack(std::uint64_t tag) noexcept {
    return {static_cast<MessageKind>(tag >> (kNumberBits + kOperationBits)),
            tag >> kNumberBits & ((1 << kOperationBits) - 1), tag & kMaxNumber};
  }
};

// What a Collective remembers from one operation to the next.
struct CollectiveAccess {
  // Numbers the operations of a Collective.
  [[nodiscard]] static std::uint64_t begin_operation(Collective& collective) noexcept {
    return ++collective.operations_ & ((1 << kOperationBits) - 1);
  }
  [[nodiscard]] static std::uint64_t operation(const Collective& collective) noexcept {
    return collective.operations_ & ((1 << kOperationBits) - 1);
  }
  [[nodiscard]] static std::vector<Incoming>& kept(Collective& collective) noexcept {
    return collective.kept_;
  }
  using Begun = Collective::Begun;
  [[nodiscard]] static std::vector<Begun>& begun(Collective& collective) noexcept {
    return collective.begun_;
  }
  // Takes over memory that the transport may use until the Collective ends.
  static void leave(Collective& collective, std::shared_ptr<void> memory) {
    collective.left_.push_back(std::move(memory));
  }
};

// Sleeps between two looks at what nobody announces: shortly at first.
class Patience {
 public:
  void reset() noexcept { pause_ = kShortest; }
  void pause();
  // Pauses, unless there was something to do.
  void after(bool any) { any ? reset() : pause(); }

 private:
  static constexpr std::chrono::microseconds kShortest{4};
  static constexpr std::chrono::microseconds kLongest{256};
  std::chrono::microseconds pause_ = kShortest;
};

// A year is as good as forever, and fits.
[[nodiscard]] std::chrono::milliseconds limited(std::chrono::milliseconds deadline) noexcept;

// A text of another process as one line of limited length.
[[nodiscard]] std::string one_line(std::string_view text);

// Whether the message is of a later operation than `current`.
[[nodiscard]] bool is_later(std::uint64_t operation, std::uint64_t current) noexcept;

class RankLink {
 public:
  using Clock = std::chrono::steady_clock;
  struct Options {
    std::chrono::milliseconds deadline{60'000};
    // Whether the ranks tell each other that they are at work. Without it the deadline is that of
    // the whole operation.
    bool alive = false;
    // Until the rank has told how it ended, poll() fails once this is set (cancelled).
    const std::atomic<bool>* cancel = nullptr;
  };
  RankLink(Collective& collective, const Options& options);
  RankLink(const RankLink&) = delete;
  RankLink& operator=(const RankLink&) = delete;
  ~RankLink();

  [[nodiscard]] Collective& collective() const noexcept { return collective_; }
  [[nodiscard]] std::uint32_t rank() const noexcept { return rank_; }
  [[nodiscard]] std::uint32_t size() const noexcept {
    return static_cast<std::uint32_t>(peers_.size());
  }

  // Sends and receives what it can without waiting, and returns whether there was anything. Errors:
  // collective_failed; collective_timeout for a rank that was not heard of, or if no rank got any
  // further; limit_exceeded; collective_ended for a rank that has given up.
  [[nodiscard]] Result<bool> poll();

  // The bytes of every rank. Errors: those of poll().
  [[nodiscard]] Result<std::vector<Bytes>> gather(Bytes bytes);

  // How far this rank has come, in any unit, for the others.
  void set_progress(std::uint64_t progress) noexcept { progress_ = progress; }
  // Of all ranks together, as far as it is known.
  [[nodiscard]] std::uint64_t progress_of_all() const noexcept;

  // Data. A message that take_data() returned must be received: begin_drop() if nobody wants it.
  [[nodiscard]] Result<Collective::Ticket> send_data(std::uint32_t to, std::uint64_t number,
                                                     std::span<const std::byte> bytes);
  [[nodiscard]] std::optional<Incoming> take_data();
  [[nodiscard]] Result<void> begin_drop(const Incoming& message);
  // Messages that are being received and dropped.
  [[nodiscard]] std::size_t drops() const noexcept;

  // Data in memory that both ranks share: lend() says where it lies, and is_returned(), once, that
  // it may change. What take_lent() returned must be given back. Errors: collective_failed.
  struct Lent {
    std::uint32_t from = 0;
    std::uint64_t number = 0;
    Bytes places;
  };
  [[nodiscard]] Result<void> lend(std::uint32_t to, std::uint64_t number, Bytes places);
  [[nodiscard]] bool is_returned(std::uint32_t by, std::uint64_t number);
  [[nodiscard]] std::optional<Lent> take_lent();
  [[nodiscard]] Result<void> give_back(std::uint32_t to, std::uint64_t number);

  // Tells the others, once, how this rank has ended. Errors: collective_failed.
  [[nodiscard]] Result<void> tell_finished(Bytes report);
  [[nodiscard]] Result<void> tell_ended(const Error& error);
  [[nodiscard]] bool has_told() const noexcept { return told_; }

  // Whether every other rank has ended in some way, and no message to or from a rank that still
  // answers is under way, but for data that take_data() has returned.
  [[nodiscard]] bool all_ended() const noexcept;
  // Whether nothing is to be expected of the rank any more.
  [[nodiscard]] bool is_lost(std::uint32_t rank) const { return peers_[rank].lost; }
  // The reports of the ranks that have finished, by rank; this rank's is empty.
  [[nodiscard]] const Bytes& report(std::uint32_t rank) const { return peers_[rank].report; }
  // The error of the first rank that has given up.
  [[nodiscard]] const std::optional<Error>& ended() const noexcept { return ended_; }

 private:
  struct Peer {
    Clock::time_point heard;
    std::uint64_t progress = 0;
    bool finished = false;
    bool gave_up = false;
    bool lost = false;  // it was not heard of in time
    Bytes report;
    std::map<std::uint64_t, Bytes> gathered;  // by the number of the exchange
  };
  struct Flight {
    Collective::Ticket ticket = 0;
    std::uint32_t peer = 0;
    std::shared_ptr<Bytes> bytes;
    std::optional<MessageTag> tag;  // of what is received and not dropped
    bool dropped = false;
  };

  // To all other ranks.
  [[nodiscard]] Result<void> tell(MessageKind kind, std::uint64_t number, Bytes bytes);
  [[nodiscard]] Result<void> tell_one(std::uint32_t to, const MessageTag& tag,
                                      std::shared_ptr<Bytes> bytes);
  [[nodiscard]] Result<bool> take_announced();
  [[nodiscard]] Result<void> take(const Incoming& message);
  [[nodiscard]] Result<void> begin_receive(const Incoming& message, bool dropped);
  [[nodiscard]] Result<bool> finish_flights();
  [[nodiscard]] Result<void> act_on(const Flight& flight);
  [[nodiscard]] Result<void> act_on_end(std::uint32_t from, const Bytes& bytes);
  [[nodiscard]] Result<void> say_alive();
  [[nodiscard]] bool is_sending_to(std::uint32_t rank) const;
  [[nodiscard]] Result<void> check_peers();
  [[nodiscard]] Result<void> check_progress(Clock::time_point now);

  Collective& collective_;
  Options options_;
  std::uint32_t rank_;
  std::uint64_t operation_;
  std::vector<Peer> peers_;
  std::deque<Flight> flights_;
  std::deque<Incoming> data_;
  std::deque<Lent> lent_;
  std::set<std::pair<std::uint32_t, std::uint64_t>> returned_;  // rank and number
  std::uint64_t gathers_ = 0;
  std::uint64_t progress_ = 0;
  std::uint64_t progress_of_all_ = 0;
  Clock::time_point got_further_;
  Clock::time_point said_alive_;
  bool told_ = false;
  bool stuck_ = false;  // no rank got any further in time
  std::optional<Error> ended_;
  std::uint32_t ended_at_ = 0;  // the rank where it began
  std::string ended_with_;
};

}  // namespace flatbed
