#include "device_thread.hpp"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace flatbed::cuda {
namespace {

// On the stack of its caller, who waits for it.
struct Call {
  void (*work)(void*);
  void* argument;
  Call* next = nullptr;
  bool done = false;
};

// condition_variable::wait() is exported by a libstdc++ that is newer than wheels may need
// (GLIBCXX_3.4.30), unlike the wait with a limit.
template <typename Ready>
void wait(std::condition_variable& changed, std::unique_lock<std::mutex>& lock, Ready ready) {
  while (!changed.wait_for(lock, std::chrono::hours(1), ready)) {
  }
}

}  // namespace

struct DeviceThread::Shared {
  pthread_t thread = {};
  std::mutex mutex;  // guards what follows
  std::condition_variable called;
  std::condition_variable answered;
  Call* first = nullptr;
  Call* last = nullptr;
  bool ending = false;
};

DeviceThread::DeviceThread(std::string name) : name_(std::move(name)) {}

// The copy that a forked process has of the thread's state is leaked: to destroy a condition waits
// for its waiters, and there is none to wake.
DeviceThread::~DeviceThread() {
  if (shared_ == nullptr) return;
  if (!is_here()) {
    static_cast<void>(shared_.release());
    return;
  }
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->ending = true;
    shared_->called.notify_one();
  }
  pthread_join(shared_->thread, nullptr);
}

bool DeviceThread::is_here() const noexcept { return ::getpid() == process_; }

// std::thread would throw if pthread_create() returned an error.
Result<void> DeviceThread::start() {
  auto shared = std::make_unique<Shared>();
  sigset_t all_signals;
  sigset_t before;
  sigfillset(&all_signals);
  pthread_sigmask(SIG_SETMASK, &all_signals, &before);
  const int failed = pthread_create(&shared->thread, nullptr, serve, shared.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (failed != 0) {
    return Error{ErrorCode::resource_exhausted, name_ + ": cannot start a thread for the device"};
  }
  process_ = ::getpid();
  shared_ = std::move(shared);
  return {};
}

// noexcept, because an exception must not leave the thread.
void* DeviceThread::serve(void* argument) noexcept {
  Shared& shared = *static_cast<Shared*>(argument);
  std::unique_lock lock(shared.mutex);
  while (true) {
    wait(shared.called, lock, [&] { return shared.first != nullptr || shared.ending; });
    if (shared.first == nullptr) return nullptr;
    Call& call = *std::exchange(shared.first, shared.first->next);
    lock.unlock();
    call.work(call.argument);
    lock.lock();
    call.done = true;
    shared.answered.notify_all();
  }
}

bool DeviceThread::run(void (*work)(void*), void* argument) noexcept {
  if (shared_ == nullptr || !is_here()) return false;
  Shared& shared = *shared_;
  if (pthread_equal(pthread_self(), shared.thread) != 0) {
    work(argument);  // a call by a call
    return true;
  }
  Call call{work, argument};
  std::unique_lock lock(shared.mutex);
  (shared.first == nullptr ? shared.first : shared.last->next) = &call;
  shared.last = &call;
  shared.called.notify_one();
  wait(shared.answered, lock, [&] { return call.done; });
  return true;
}

Result<void> DeviceThread::check() const {
  if (shared_ == nullptr || !is_here()) return absent();
  return {};
}

Error DeviceThread::absent() const {
  return {ErrorCode::device_unavailable,
          name_ + ": the device belongs to the process that made it, before a fork()"};
}

}  // namespace flatbed::cuda
