// WakeUps: wakes threads that wait for events, by a function that CUDA calls, on a thread of its
// own, when an event is complete. It is launched in a stream that only waits for events: in the
// stream of the copies, the next copy would not start before the function has returned.
//
//   copies   copy 1 ─ event 1 ─ copy 2 ─ event 2 ─ ...
//                        └──┐              a thread waits for ticket 1
//   wakes             wait ─ function ──> it goes on
//
// Owns the stream. Thread-safe; no lock is held during a CUDA call. Whoever destroys it must know
// that no function is under way (settle()).
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>

#include "cuda_api.hpp"
#include "cuda_handle.hpp"
#include "flatbed/device.hpp"

namespace flatbed::cuda {

class WakeUps {
 public:
  explicit WakeUps(const CudaApi& api) : api_(api) {}
  WakeUps(const WakeUps&) = delete;
  WakeUps& operator=(const WakeUps&) = delete;

  // Calls CUDA, on a thread where the device is current. Whoever opens it does so once, before
  // wait(). Without a stream nobody is woken.
  void open() noexcept;

  // Returns when the event of a ticket that has not ended is complete, or after `most`, or at once
  // if CUDA launches no function. The caller asks which. One function is launched for each ticket,
  // however often it is waited for: a stream that hangs takes only so many.
  void wait(Ticket ticket, cudaEvent_t event, std::chrono::nanoseconds most);
  // Call when a ticket has ended.
  void end(Ticket ticket) noexcept;

  // Waits until no function is under way, for `most` at the longest; returns whether that is so.
  // CUDA does not call a function after an error of the device, or while the device hangs.
  [[nodiscard]] bool settle(std::chrono::nanoseconds most) noexcept;

 private:
  struct Wake {
    WakeUps* owner = nullptr;
    Ticket ticket = 0;       // 0: none, which no ticket is
    bool under_way = false;  // CUDA will call the function
    bool rung = false;       // CUDA has called it for this ticket
    unsigned waiting = 0;    // threads
    std::condition_variable woken;
  };
  static void ring(void* wake) noexcept;
  [[nodiscard]] bool launch(Wake& wake, cudaEvent_t event) noexcept;
  [[nodiscard]] Wake* find(Ticket ticket) noexcept;
  [[nodiscard]] Wake& add(Ticket ticket);

  const CudaApi& api_;
  Stream stream_;
  std::mutex mutex_;        // guards what follows
  std::deque<Wake> wakes_;  // which CUDA points to: they stay where they are
  std::size_t under_way_ = 0;
  std::condition_variable none_under_way_;
};

}  // namespace flatbed::cuda
