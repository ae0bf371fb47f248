// Collective: the ranks of a job, as load_together() (load_together.hpp) and others talk to each
// other. mpi_collective() (mpi.hpp) is MPI's; engines may implement it over a transport of their
// own. flatbed has none.
//
// It sends messages between pairs of ranks, and nothing else. No member waits: what has begun is a
// ticket, which done() asks about. The functions below wait, each until a deadline, and are
// where programs that hand out work should begin:
//
//   FLATBED_TRY(send_message(collective, {.to = 0, .tag = 1}, bytes, std::chrono::seconds(30)));
//   FLATBED_ASSIGN(const Message answer, next_message(collective, std::chrono::seconds(30)));
//
// What an implementation promises: messages of one rank to another are announced in the order in
// which they were sent; send() keeps nobody waiting until receive() is called; receive() may be
// called in any order. A rank that has died need not be noticed: the deadlines do that.
//
// All members of one Collective are called from one thread at a time. MPI may require that it is
// always the same one: see mpi.hpp.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "flatbed/export.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

struct MessageAddress {
  std::uint32_t to = 0;  // a rank, not this one
  std::uint64_t tag = 0;
};

// A message that has been announced, and is received by receive() with a buffer of `nbytes`.
struct Incoming {
  std::uint32_t from = 0;
  std::uint64_t tag = 0;
  std::uint64_t nbytes = 0;
  std::uint64_t id = 0;  // the implementation's
};

class FLATBED_EXPORT Collective {
 public:
  // Identifies a send or a receive. A ticket ends when done() has returned true or an error for it,
  // or by forget().
  using Ticket = std::uint64_t;

  Collective() = default;
  Collective(const Collective&) = delete;
  Collective& operator=(const Collective&) = delete;
  // Compiled into the library, always with RTTI, so that the type is unique.
  virtual ~Collective();

  [[nodiscard]] virtual std::uint32_t rank() const noexcept = 0;  // of this process, below size()
  [[nodiscard]] virtual std::uint32_t size() const noexcept = 0;
  // A number that two ranks share if they are on one machine. The default says that none are.
  [[nodiscard]] virtual std::uint32_t node(std::uint32_t rank) const noexcept;

  // Memory of `rank` that the ranks of its node share: it writes what the others read, and tells
  // them by messages. What was written before a send() is seen after the done() of the receive().
  // Begins at a page. Empty where there is none, on all ranks of a node alike; the default has
  // none. Lives as long as the Collective.
  [[nodiscard]] virtual std::span<std::byte> shared_memory(std::uint32_t rank) noexcept;

  // Begins to send. `bytes` must not change until the ticket has ended. Errors: collective_failed,
  // invalid_argument (a message that is too large for the transport).
  [[nodiscard]] virtual Result<Ticket> send(const MessageAddress& address,
                                            std::span<const std::byte> bytes) = 0;
  // The next message that has been announced; each is returned once. Errors: collective_failed.
  [[nodiscard]] virtual Result<std::optional<Incoming>> next() = 0;
  // Begins to receive a message that next() has returned. `out` has exactly its size, and is
  // written until the ticket has ended. Errors: collective_failed.
  [[nodiscard]] virtual Result<Ticket> receive(const Incoming& message,
                                               std::span<std::byte> out) = 0;
  // Whether it is complete: sent bytes may change, received ones are there. Errors:
  // collective_failed.
  [[nodiscard]] virtual Result<bool> done(Ticket ticket) = 0;
  // Ends a ticket that nobody waits for any more. Returns false if its memory may still be in use,
  // for as long as the Collective exists.
  [[nodiscard]] virtual bool forget(Ticket ticket) noexcept = 0;

 private:
  friend struct CollectiveAccess;
  // A message that next_message() has begun to receive.
  struct Begun {
    std::uint32_t from = 0;
    std::uint64_t tag = 0;
    Ticket ticket = 0;
    std::shared_ptr<std::vector<std::byte>> bytes;
  };
  std::vector<Incoming> kept_;               // announced, for a later operation
  std::vector<Begun> begun_;                 // at most one of each rank
  std::uint64_t operations_ = 0;             // begun so far: the same on all ranks
  std::vector<std::shared_ptr<void>> left_;  // memory that the transport may still use
};

struct Message {
  std::uint32_t from = 0;
  std::uint64_t tag = 0;  // below 2^32
  std::vector<std::byte> bytes;
};

// The tags of send_message() are below this.
inline constexpr std::uint64_t kMaxMessageTag = std::uint64_t{1} << 32;
// The largest message that next_message() and all_gather() accept from another rank.
inline constexpr std::uint64_t kMaxMessageNbytes = std::uint64_t{1} << 30;

class PendingMessage;

// Begins to send a copy of the bytes; next_message() receives it. Errors: collective_failed,
// invalid_argument (a rank or a tag that there is none of).
[[nodiscard]] FLATBED_EXPORT Result<PendingMessage> begin_message(Collective& collective,
                                                                  const MessageAddress& address,
                                                                  std::span<const std::byte> bytes);

// A message that is being sent while the caller does something else. Borrows the Collective, and is
// for the same thread. Destroying it does not take the message back: whoever it is for may still
// receive it.
class FLATBED_EXPORT PendingMessage {
 public:
  PendingMessage(PendingMessage&& other) noexcept;
  PendingMessage& operator=(PendingMessage&& other) noexcept;
  ~PendingMessage();

  // Whether the bytes are on their way. Once it has returned true or an error, it returns true.
  // Errors: collective_failed.
  [[nodiscard]] Result<bool> done();

 private:
  friend Result<PendingMessage> begin_message(Collective& collective, const MessageAddress& address,
                                              std::span<const std::byte> bytes);
  PendingMessage() = default;
  void forget() noexcept;

  Collective* collective_ = nullptr;  // null: it is done
  std::uint32_t to_ = 0;
  Collective::Ticket ticket_ = 0;
  std::shared_ptr<std::vector<std::byte>> bytes_;
};

// Sends, and waits until the bytes are on their way. Errors: collective_timeout, collective_failed,
// invalid_argument (a rank or a tag that there is none of).
[[nodiscard]] FLATBED_EXPORT Result<void> send_message(Collective& collective,
                                                       const MessageAddress& address,
                                                       std::span<const std::byte> bytes,
                                                       std::chrono::milliseconds deadline);

// Waits for the next message that another rank sent by begin_message() or send_message(). Messages
// of one rank are returned in the order in which they were sent. One that has been announced, but
// has not arrived by the deadline, is returned by a later call. Errors: collective_timeout,
// collective_failed, limit_exceeded.
[[nodiscard]] FLATBED_EXPORT Result<Message> next_message(Collective& collective,
                                                          std::chrono::milliseconds deadline);

// The bytes of every rank, by rank; the same on all. Every rank calls it, in the same order of
// calls. Errors: collective_timeout, which names the ranks that are missing, collective_failed,
// limit_exceeded.
[[nodiscard]] FLATBED_EXPORT Result<std::vector<std::vector<std::byte>>> all_gather(
    Collective& collective, std::span<const std::byte> bytes, std::chrono::milliseconds deadline);

}  // namespace flatbed
