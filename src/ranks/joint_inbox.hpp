// JointInbox: what other ranks have read for this one, from the message to its places. The thread
// that may call the Collective receives messages into slots; threads of the load deliver them, as
// they would deliver what they had read themselves. The slots are the inbox's own: one that holds a
// message waits for nothing but a device of this rank, so that other ranks can always go on.
//
//   free slot  --receive-->  filled  --deliver-->  copied by its devices  -->  free slot
//
// A message whose bytes stay together in host memory is received there at once. What a rank of the
// same node lends, in memory that both share, is copied by a delivering thread, to the same places,
// and given back.
//
// Borrows the link and the jobs. What is for the receiving thread and what is for the delivering
// ones says so; the rest is thread-safe.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "load/load_peers.hpp"
#include "ranks/joint_jobs.hpp"
#include "ranks/rank_link.hpp"

namespace flatbed {

class JointInbox {
 public:
  static constexpr unsigned kThreads = 2;  // that deliver

  // `in_place`: messages may be received into the plan's destinations.
  JointInbox(RankLink& link, const JointJobs& jobs, bool in_place)
      : link_(link), jobs_(jobs), in_place_(in_place), open_(jobs.expected.size(), true) {}

  // Before the threads begin. `staging`: of the slots. Errors: those of making a pool.
  [[nodiscard]] Result<void> begin(const LoadWork& work, const StagingOptions& staging,
                                   std::chrono::milliseconds device_timeout);
  [[nodiscard]] unsigned threads() const noexcept { return jobs_.expected.empty() ? 0 : kThreads; }

  // Delivering threads.
  void deliver(StageTimes& times);

  // Receiving thread: begins and ends what it can, and returns whether there was anything. Once the
  // load has stopped, what arrives is dropped. Errors: those of the link; collective_failed (a
  // message that nobody expects).
  [[nodiscard]] Result<bool> receive(bool stopped);
  // Of a rank that still answers.
  [[nodiscard]] bool is_receiving() const;
  // Receiving thread, when all other threads have ended: gives up what is still being received of
  // ranks that do not answer.
  void end();

  [[nodiscard]] std::uint64_t received_nbytes() const noexcept { return received_; }
  // Of memory that stays staged, because messages may still be written to it. Final after end().
  [[nodiscard]] std::uint64_t abandoned_nbytes() const noexcept {
    return pool_ ? pool_->abandoned_nbytes() : 0;
  }
  [[nodiscard]] std::uint64_t peak_nbytes() const noexcept {
    return pool_ ? pool_->peak_nbytes() : 0;
  }
  [[nodiscard]] double waited_seconds() const;

 private:
  struct Filled {
    std::uint32_t number = 0;                // index into the expected
    std::optional<std::uint32_t> slot = {};  // none: received in place
    Collective::Ticket ticket = 0;
    std::vector<CopyPiece> lent = {};  // to be copied first
  };
  struct Announced {
    std::uint32_t from = 0;
    std::uint64_t number = 0;
    std::uint64_t nbytes = 0;
  };

  [[nodiscard]] Result<const ExpectedMessage*> expected_of(const Announced& message);
  [[nodiscard]] Result<bool> begin_next();
  [[nodiscard]] Result<bool> begin_lent();
  [[nodiscard]] Result<bool> drop();
  [[nodiscard]] Result<bool> give_back();
  // Where a message goes, with a slot if it needs one; null if there is none for now.
  [[nodiscard]] std::byte* take_place(const ExpectedMessage& expected, Filled& filled);
  // Where all bytes of the message belong, if they stay together in host memory; otherwise null.
  [[nodiscard]] std::byte* place_of(const ExpectedMessage& expected) const;
  [[nodiscard]] std::optional<Filled> next_filled(StageTimes& times);
  [[nodiscard]] Result<void> deliver_one(const Filled& filled);
  [[nodiscard]] Result<void> queue(std::vector<DeviceTicket>& tickets,
                                   const std::vector<std::vector<CopyPiece>>& pieces);

  RankLink& link_;
  const JointJobs& jobs_;
  bool in_place_;
  std::unique_ptr<Device> host_ = host_device();
  std::unique_ptr<StagingPool> pool_;
  std::optional<LoadWork> work_;
  std::optional<LoadSlots> slots_;
  std::vector<bool> open_;                   // expected and not begun; receiving thread
  std::deque<Filled> receiving_;             // receiving thread
  std::optional<Incoming> next_;             // announced, for want of a slot; receiving thread
  std::optional<RankLink::Lent> next_lent_;  // the same
  std::uint64_t received_ = 0;               // receiving thread
  mutable std::mutex mutex_;                 // guards what follows
  std::condition_variable changed_;
  std::deque<std::uint32_t> empty_;  // slots
  std::deque<Filled> filled_;
  std::vector<std::uint32_t> copied_;  // of the expected: what was lent, to be given back
  std::size_t slots_needed_ = 0;       // by messages that have not begun to arrive
  std::size_t taken_ = 0;              // of the expected, by delivering threads
  unsigned delivering_ = 0;            // threads; one that cannot enter its devices never begins
  std::uint64_t waited_ns_ = 0;
};

}  // namespace flatbed
