// The shared progress of one load's threads: the first error, the request to stop, the groups that
// are ready, and where each thread's time went.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "flatbed/load.hpp"
#include "load/load_hooks.hpp"
#include "load/load_schedule.hpp"

namespace flatbed {

// Nanoseconds of one thread, by Stage.
using StageTimes = std::array<std::uint64_t, 5>;

// Adds the time of its lifetime to one stage.
class StageTimer {
 public:
  StageTimer(const LoadHooks& hooks, StageTimes& times, Stage stage)
      : hooks_(hooks), spent_(times[static_cast<std::size_t>(stage)]), begin_(hooks.now_ns()) {}
  StageTimer(const StageTimer&) = delete;
  StageTimer& operator=(const StageTimer&) = delete;
  ~StageTimer() { spent_ += hooks_.now_ns() - begin_; }

 private:
  const LoadHooks& hooks_;
  std::uint64_t& spent_;
  std::uint64_t begin_;
};

// The first error or the caller's request to cancel. Once the threads see either, they stop for
// good. Thread-safe.
class LoadStop {
 public:
  explicit LoadStop(const std::atomic<bool>* cancel) : cancel_(cancel) {}

  void fail(Error error);
  [[nodiscard]] bool stopped() noexcept;
  // The first error, or otherwise the cancellation.
  [[nodiscard]] Result<void> result(std::uint64_t bytes_done, std::uint64_t bytes_total);

 private:
  const std::atomic<bool>* cancel_;
  std::atomic<bool> stopped_ = false;
  std::mutex mutex_;
  std::optional<Error> error_;
};

// Counts jobs until their groups are complete, and notifies the thread that waits in load().
// Thread-safe; what is about the next group, wait() and forget_events() are for that one thread.
class LoadGroups {
 public:
  // Without `fences` no events are created, because nobody needs them.
  LoadGroups(const LoadPlanState& plan, const Schedule& schedule, bool fences);

  // Call when a job's bytes are in place, or queued. Queues the fences of a group that this
  // completes.
  [[nodiscard]] Result<void> job_done(const Job& job, std::uint64_t nbytes);
  // Call when the last reading thread has ended and nothing is under way.
  void readers_done();

  // Waits until the next group in order is complete, the readers are done, or `patience` is over.
  void wait(std::chrono::milliseconds patience);
  [[nodiscard]] bool finished() const;
  // The next group in order, if it is complete. Call again after next_group().
  [[nodiscard]] std::optional<GroupReady> ready_group();
  // Orders the engine's streams after that group.
  [[nodiscard]] Result<void> order_before_engine();
  void next_group();
  // Call after the last reader: releases the events of groups that were never called back.
  void forget_events() noexcept;

  [[nodiscard]] std::uint64_t bytes_done() const noexcept { return bytes_done_; }

 private:
  struct State {
    std::atomic<std::uint32_t> jobs_left = 0;
    std::vector<std::uint32_t> devices;  // the plan's, except the host
    std::vector<Ticket> fences;          // of the devices, once complete; guarded by mutex_
    bool complete = false;               // guarded by mutex_
  };
  [[nodiscard]] Result<void> complete(std::uint32_t group);
  [[nodiscard]] static Result<Ticket> fence_with_event(Device& device);
  void forget_fences(State& group) noexcept;
  [[nodiscard]] bool turn_is_complete() const;

  const LoadPlanState& plan_;
  const std::vector<std::uint32_t>& order_;
  bool with_fences_;
  std::vector<State> groups_;
  std::atomic<std::uint64_t> bytes_done_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool readers_done_ = false;
  std::size_t turn_ = 0;                   // index into order_
  std::vector<GroupReady::Event> events_;  // of the next group in order
};

}  // namespace flatbed
