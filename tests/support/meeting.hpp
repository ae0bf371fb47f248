// Meeting: shows that several threads work at once, whatever else the machine has to do: those that
// arrive wait until `wanted` of them are there. Where so many never are, each waits for a minute.
// Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace flatbed::test {

class Meeting {
 public:
  explicit Meeting(int wanted) : wanted_(wanted) {}

  void arrive() {
    std::unique_lock lock(mutex_);
    if (++present_ == wanted_) took_place_ = true;
    if (took_place_) complete_.notify_all();
    complete_.wait_for(lock, std::chrono::minutes(1), [this] { return took_place_; });
    --present_;
  }

  [[nodiscard]] bool took_place() const {
    const std::lock_guard lock(mutex_);
    return took_place_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable complete_;
  int wanted_;
  int present_ = 0;
  bool took_place_ = false;
};

}  // namespace flatbed::test
