#include "wake_ups.hpp"

#include <algorithm>

#include "cuda_error.hpp"

namespace flatbed::cuda {

void WakeUps::open() noexcept {
  cudaStream_t stream = nullptr;
  const cudaError_t status = api_.StreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  consume(api_, status);
  if (status == cudaSuccess) stream_ = Stream(api_, stream);
}

void WakeUps::wait(Ticket ticket, cudaEvent_t event, std::chrono::nanoseconds most) {
  if (stream_.get() == nullptr) return;
  std::unique_lock lock(mutex_);
  Wake* wake = find(ticket);
  if (wake == nullptr) {
    wake = &add(ticket);
    lock.unlock();
    const bool launched = launch(*wake, event);
    lock.lock();
    if (!launched) {
      wake->under_way = false;
      wake->rung = true;  // nobody else need wait for it
      wake->woken.notify_all();
      if (--under_way_ == 0) none_under_way_.notify_all();
      return;
    }
  }
  ++wake->waiting;
  wake->woken.wait_for(lock, most, [wake] { return wake->rung; });
  --wake->waiting;
}

// A function that is still under way keeps its Wake.
void WakeUps::end(Ticket ticket) noexcept {
  const std::lock_guard lock(mutex_);
  if (Wake* const wake = find(ticket); wake != nullptr) wake->ticket = 0;
}

bool WakeUps::settle(std::chrono::nanoseconds most) noexcept {
  constexpr std::chrono::nanoseconds kLook = std::chrono::milliseconds(1);
  const auto end = std::chrono::steady_clock::now() + most;
  std::unique_lock lock(mutex_);
  while (under_way_ != 0 && std::chrono::steady_clock::now() < end) {
    none_under_way_.wait_for(lock, kLook, [this] { return under_way_ == 0; });
    lock.unlock();
    const cudaError_t status = api_.StreamQuery(stream_.get());  // some submit work when asked
    consume(api_, status);
    lock.lock();
    if (status != cudaSuccess && status != cudaErrorNotReady) break;
  }
  return under_way_ == 0;
}

// The event may be recorded again for another ticket: what the stream waits for is what it holds
// now.
bool WakeUps::launch(Wake& wake, cudaEvent_t event) noexcept {
  cudaError_t status = api_.StreamWaitEvent(stream_.get(), event, 0);
  if (status == cudaSuccess) status = api_.LaunchHostFunc(stream_.get(), ring, &wake);
  consume(api_, status);
  return status == cudaSuccess;
}

// All under the lock: once it is free, the Wake and its owner may be gone.
void WakeUps::ring(void* argument) noexcept {
  Wake& wake = *static_cast<Wake*>(argument);
  WakeUps& self = *wake.owner;
  const std::lock_guard lock(self.mutex_);
  wake.under_way = false;
  wake.rung = true;
  wake.woken.notify_all();
  if (--self.under_way_ == 0) self.none_under_way_.notify_all();
}

WakeUps::Wake* WakeUps::find(Ticket ticket) noexcept {
  const auto found = std::ranges::find(wakes_, ticket, &Wake::ticket);
  return found == wakes_.end() ? nullptr : &*found;
}

WakeUps::Wake& WakeUps::add(Ticket ticket) {
  const auto unused = std::ranges::find_if(wakes_, [](const Wake& wake) {
    return wake.ticket == 0 && !wake.under_way && wake.waiting == 0;
  });
  Wake& wake = unused == wakes_.end() ? wakes_.emplace_back() : *unused;
  wake.owner = this;
  wake.ticket = ticket;
  wake.under_way = true;
  wake.rung = false;
  ++under_way_;
  return wake;
}

}  // namespace flatbed::cuda
