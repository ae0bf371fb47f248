#include "save/write_window.hpp"

#include <chrono>

namespace flatbed {

bool WriteWindow::wait_for(std::uint64_t offset) {
  std::unique_lock lock(mutex_);
  const auto may_write = [&] {
    return failed_ || offset <= unwritten_ || offset - unwritten_ <= nbytes_;
  };
  while (!moved_.wait_for(lock, std::chrono::hours(1), may_write)) {
  }
  return !failed_;
}

void WriteWindow::advance(std::uint64_t offset, std::uint64_t nbytes) {
  {
    const std::lock_guard lock(mutex_);
    beyond_.emplace(offset, offset + nbytes);
    while (!beyond_.empty() && beyond_.begin()->first <= unwritten_) {
      unwritten_ = beyond_.begin()->second;
      beyond_.erase(beyond_.begin());
    }
  }
  moved_.notify_all();
}

void WriteWindow::fail() {
  {
    const std::lock_guard lock(mutex_);
    failed_ = true;
  }
  moved_.notify_all();
}

}  // namespace flatbed
