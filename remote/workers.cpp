#include "workers.hpp"

#include <chrono>
#include <utility>

#include "text.hpp"

namespace flatbed::remote {

namespace {

// Not wait(): compiled with GCC 12 or later, its symbol is one that older systems do not have.
template <typename Condition>
void wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                Condition condition) {
  while (!changed.wait_for(lock, std::chrono::hours(1), condition)) {
  }
}

}  // namespace

Workers::~Workers() { stop(); }

void* Workers::run(void* self) noexcept {
  static_cast<Workers*>(self)->work();
  return nullptr;
}

Result<void> Workers::add(Task task) {
  std::unique_lock lock(mutex_);
  wait_until(changed_, lock, [&] { return error_ || waiting_.size() + busy_ < most_; });
  if (error_) return *error_;
  waiting_.push_back(std::move(task));
  if (threads_.size() < most_) {
    pthread_t thread = {};
    if (pthread_create(&thread, nullptr, run, this) == 0) {
      threads_.push_back(thread);
    } else if (threads_.empty()) {
      waiting_.clear();
      return error_of(ErrorCode::resource_exhausted, "cannot start a thread");
    }
  }
  changed_.notify_all();
  return {};
}

Result<void> Workers::finish() {
  std::unique_lock lock(mutex_);
  wait_until(changed_, lock, [&] { return busy_ == 0 && (error_ || waiting_.empty()); });
  if (error_) return *error_;
  return {};
}

void Workers::stop() noexcept {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    waiting_.clear();
  }
  changed_.notify_all();
  for (const pthread_t thread : threads_) pthread_join(thread, nullptr);
  threads_.clear();
}

void Workers::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wait_until(changed_, lock, [&] { return closing_ || (!waiting_.empty() && !error_); });
    if (closing_) return;
    const Task task = std::move(waiting_.front());
    waiting_.pop_front();
    busy_ += 1;
    lock.unlock();
    Result<void> done = task();
    lock.lock();
    busy_ -= 1;
    if (!done && !error_) error_ = std::move(done).error();
    changed_.notify_all();
  }
}

}  // namespace flatbed::remote
