// VirtualClock: time for the reading threads of a load, which are real threads and take turns. One
// runs; when it sleeps, the one that wakes first goes on and the time is then. What happens is the
// same in each run, whatever the machine does.
//
// VirtualServers: what serves requests in their order, such as a disk or processors, and how long
// that takes. Only for threads of one clock.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "load/load_hooks.hpp"
#include "support/poll.hpp"

namespace flatbed::test {

class VirtualClock {
 public:
  // Time does not advance until this many threads have entered.
  explicit VirtualClock(unsigned threads) : missing_(threads) {}

  [[nodiscard]] std::uint64_t now_ns() const {
    const std::lock_guard lock(mutex_);
    return now_ns_;
  }
  void enter() {
    std::unique_lock lock(mutex_);
    --missing_;
    wait_for_turn(lock, now_ns_);
  }
  void leave() {
    const std::lock_guard lock(mutex_);
    next_turn();
  }
  // Of a thread that has entered.
  void sleep_ns(std::uint64_t nanoseconds) {
    std::unique_lock lock(mutex_);
    wait_for_turn(lock, now_ns_ + nanoseconds);
  }
  void sleep_until(std::uint64_t time_ns) {
    std::unique_lock lock(mutex_);
    wait_for_turn(lock, std::max(now_ns_, time_ns));
  }

  // The parts of LoadHooks that are a clock's.
  [[nodiscard]] LoadHooks hooks() {
    LoadHooks hooks;
    hooks.now_ns = [this] { return now_ns(); };
    poll(hooks, [this](std::uint64_t nanoseconds) { sleep_ns(nanoseconds); });
    hooks.enter = [this] { enter(); };
    hooks.leave = [this] { leave(); };
    return hooks;
  }

 private:
  struct Sleeper {
    std::condition_variable woken;
    bool awake = false;
  };

  void wait_for_turn(std::unique_lock<std::mutex>& lock, std::uint64_t wake_ns) {
    Sleeper me;
    sleepers_.emplace(std::pair(wake_ns, ++turns_), &me);
    next_turn();
    me.woken.wait(lock, [&me] { return me.awake; });
  }
  void next_turn() {
    if (missing_ != 0 || sleepers_.empty()) return;
    const auto first = sleepers_.begin();
    now_ns_ = std::max(now_ns_, first->first.first);
    first->second->awake = true;
    first->second->woken.notify_one();
    sleepers_.erase(first);
  }

  mutable std::mutex mutex_;
  std::uint64_t now_ns_ = 0;
  std::uint64_t turns_ = 0;
  unsigned missing_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, Sleeper*> sleepers_;  // by time and turn
};

class VirtualServers {
 public:
  struct Options {
    unsigned count = 1;
    double bytes_per_ns = 1;       // of one server
    std::uint64_t latency_ns = 0;  // of each request, during which others are served
  };
  VirtualServers(VirtualClock& clock, const Options& options)
      : clock_(clock), options_(options), free_ns_(options.count) {}

  // Sleeps until the request has been served.
  void serve(std::uint64_t nbytes) {
    std::uint64_t& free = *std::ranges::min_element(free_ns_);
    free = std::max(free, clock_.now_ns()) +
           static_cast<std::uint64_t>(static_cast<double>(nbytes) / options_.bytes_per_ns);
    nbytes_ += nbytes;
    clock_.sleep_until(free + options_.latency_ns);
  }
  // What they need at least for all that they were asked for.
  [[nodiscard]] double seconds() const {
    return static_cast<double>(nbytes_) / options_.bytes_per_ns / options_.count * 1e-9;
  }

 private:
  VirtualClock& clock_;
  Options options_;
  std::vector<std::uint64_t> free_ns_;
  std::uint64_t nbytes_ = 0;
};

}  // namespace flatbed::test
