// FakeDevice: a device made of this process's memory whose copies run late: when done() is asked
// for their ticket, never before. A slot that is written while its copy is queued therefore arrives
// wrong. Calls can be made to fail. Thread-safe, as devices are.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/str_cat.hpp"
#include "flatbed/device.hpp"

namespace flatbed::test {

class FakeDevice final : public Device, public DeviceMemory {
 public:
  struct Faults {
    // The n-th call (from 1) of each kind fails; 0: none does.
    int check = 0;
    int stage = 0;
    int copy = 0;
    int fence = 0;
    int done = 0;
    int allocate = 0;
    int enter = 0;           // of enter_thread()
    bool for_ever = false;   // and all later calls of that kind
    bool half_copy = false;  // a failing copy() has queued its first piece
    bool never_done = false;
    bool no_events = false;  // tickets have no events
    bool no_memory = false;  // memory() is null
  };

  explicit FakeDevice(std::string name = "fake") : name_(std::move(name)) {}
  // What was staged and abandoned ends here.
  ~FakeDevice() override {
    for (const Staging& staging : staging_)
      ::operator delete (staging.memory, std::align_val_t{4096});
  }

  Faults faults;
  int not_ready = 0;  // so many times done() says false before it runs the copies
  int node = -1;
  std::uint64_t link = 0;                 // bytes per second
  std::function<void(int)> before_stage;  // called by stage() with the number of the call, from 1

  // Copies that were queued and not run; what was staged and not given back.
  [[nodiscard]] std::size_t pending() {
    const std::lock_guard lock(mutex_);
    return static_cast<std::size_t>(
        std::ranges::count_if(queue_, [](const Queued& queued) { return !queued.pieces.empty(); }));
  }
  [[nodiscard]] std::size_t staged_nbytes() const { return staged_; }
  // Allocated and not released.
  [[nodiscard]] std::size_t allocated_nbytes() const { return allocated_; }
  [[nodiscard]] int allocations() const { return calls_allocate_; }
  // Whether memory was given back that a queued copy had yet to read.
  [[nodiscard]] bool freed_under_copy() const { return freed_under_copy_; }
  [[nodiscard]] std::size_t open_tickets() {
    const std::lock_guard lock(mutex_);
    return open_.size();
  }
  // Tickets that were given up and had ended before.
  [[nodiscard]] int forgotten_twice() const { return forgotten_twice_; }
  [[nodiscard]] int copies() const { return calls_copy_; }
  // What a stream does that waits for a native_event().
  void wait_for(void* event) {
    const std::lock_guard lock(mutex_);
    run_to(static_cast<Ticket>(reinterpret_cast<std::uintptr_t>(event)));
  }

  [[nodiscard]] std::string_view name() const noexcept override { return name_; }
  [[nodiscard]] bool is_host() const noexcept override { return false; }
  [[nodiscard]] int numa_node() const noexcept override { return node; }
  [[nodiscard]] std::uint64_t link_bytes_per_second() const noexcept override { return link; }

  Result<void> enter_thread() override {
    if (!fails(faults.enter, calls_enter_)) return {};
    return make_error(ErrorCode::device_error, name_, ": cannot be entered");
  }
  Result<void> check(const std::byte* /*data*/, std::uint64_t /*nbytes*/) override {
    if (fails(faults.check, calls_check_)) {
      return make_error(ErrorCode::destination_invalid, name_, ": not this device's memory");
    }
    return {};
  }

  Result<std::byte*> stage(std::uint64_t nbytes) override {
    const int call = calls_stage_ + 1;
    if (fails(faults.stage, calls_stage_)) {
      return make_error(ErrorCode::resource_exhausted, name_, ": no memory");
    }
    if (before_stage) before_stage(call);
    staged_ += nbytes;
    auto* memory = static_cast<std::byte*>(::operator new (nbytes, std::align_val_t{4096}));
    std::memset(memory, 0xa5, nbytes);  // not what an earlier load left there
    const std::lock_guard lock(mutex_);
    staging_.push_back({memory, nbytes});
    return memory;
  }
  void unstage(std::byte* memory, std::uint64_t nbytes) noexcept override {
    staged_ -= nbytes;
    const std::lock_guard lock(mutex_);
    for (const Queued& queued : queue_) {
      for (const CopyPiece& piece : queued.pieces)
        if (reads(piece, memory, nbytes)) freed_under_copy_ = true;
    }
    std::erase_if(staging_, [&](const Staging& staging) { return staging.memory == memory; });
    ::operator delete (memory, std::align_val_t{4096});
  }

  Result<Ticket> copy(std::span<const CopyPiece> pieces) override {
    const bool failing = fails(faults.copy, calls_copy_);
    const std::lock_guard lock(mutex_);
    if (failing) {
      if (faults.half_copy) queue_.push_back({next_ticket_++, {pieces[0]}});
      return make_error(ErrorCode::device_error, name_, ": copy failed");
    }
    return push({pieces.begin(), pieces.end()});
  }
  Result<Ticket> fence() override {
    const bool failing = fails(faults.fence, calls_fence_);
    const std::lock_guard lock(mutex_);
    if (failing) return make_error(ErrorCode::device_error, name_, ": fence failed");
    return push({});
  }

  Result<bool> done(Ticket ticket) override {
    const bool failing = fails(faults.done, calls_done_);
    const std::lock_guard lock(mutex_);
    if (std::ranges::find(open_, ticket) == open_.end())
      return make_error(ErrorCode::internal_error, name_, ": ticket ", ticket, " is not open");
    if (failing) {
      std::erase(open_, ticket);
      return make_error(ErrorCode::device_error, name_, ": done failed");
    }
    if (faults.never_done || asked_++ < not_ready) return false;
    asked_ = 0;
    run_to(ticket);
    std::erase(open_, ticket);
    return true;
  }
  void forget(Ticket ticket) noexcept override {
    const std::lock_guard lock(mutex_);
    if (std::erase(open_, ticket) == 0) ++forgotten_twice_;
  }
  [[nodiscard]] void* native_event(Ticket ticket) noexcept override {
    if (faults.no_events) return nullptr;
    return reinterpret_cast<void*>(static_cast<std::uintptr_t>(ticket));
  }

  [[nodiscard]] DeviceMemory* memory() noexcept override {
    return faults.no_memory ? nullptr : this;
  }
  Result<std::byte*> allocate(std::uint64_t nbytes) override {
    if (fails(faults.allocate, calls_allocate_)) {
      return make_error(ErrorCode::resource_exhausted, name_, ": no memory");
    }
    allocated_ += nbytes;
    return static_cast<std::byte*>(::operator new (nbytes, std::align_val_t{256}));
  }
  void release(std::byte* memory, std::uint64_t nbytes) noexcept override {
    allocated_ -= nbytes;
    ::operator delete (memory, std::align_val_t{256});
  }
  Result<void> read_back(const std::byte* from, std::span<std::byte> out) override {
    std::memcpy(out.data(), from, out.size());
    return {};
  }

 private:
  struct Queued {
    Ticket ticket;
    std::vector<CopyPiece> pieces;
  };
  struct Staging {
    std::byte* memory;
    std::size_t nbytes;
  };
  static bool reads(const CopyPiece& piece, const std::byte* memory, std::size_t nbytes) {
    return piece.from >= memory && piece.from < memory + nbytes;
  }
  bool fails(int nth, std::atomic<int>& calls) const {
    const int call = ++calls;
    return nth != 0 && (call == nth || (faults.for_ever && call > nth));
  }
  Ticket push(std::vector<CopyPiece> pieces) {
    queue_.push_back({next_ticket_, std::move(pieces)});
    open_.push_back(next_ticket_);
    return next_ticket_++;
  }
  void run_to(Ticket ticket) {
    while (!queue_.empty() && queue_.front().ticket <= ticket) {
      run(queue_.front().pieces);
      queue_.pop_front();
    }
  }
  static void run(const std::vector<CopyPiece>& pieces) {
    for (const CopyPiece& piece : pieces) {
      for (std::uint64_t row = 0; row < piece.rows; ++row) {
        std::memcpy(piece.to + row * piece.to_pitch, piece.from + row * piece.from_pitch,
                    piece.nbytes);
      }
    }
  }

  std::string name_;
  std::mutex mutex_;
  std::deque<Queued> queue_;
  std::vector<Ticket> open_;
  std::vector<Staging> staging_;
  std::atomic<bool> freed_under_copy_ = false;
  std::atomic<int> forgotten_twice_ = 0;
  Ticket next_ticket_ = 1;
  int asked_ = 0;
  std::atomic<std::size_t> staged_ = 0;
  std::atomic<std::size_t> allocated_ = 0;
  std::atomic<int> calls_check_ = 0, calls_stage_ = 0, calls_copy_ = 0, calls_fence_ = 0,
                   calls_done_ = 0, calls_allocate_ = 0, calls_enter_ = 0;
};

}  // namespace flatbed::test
