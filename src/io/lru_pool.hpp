// LruPool: keeps the most recently used of many resources that can be opened again, at most `limit`
// of them. Whoever holds one that has left the pool keeps it until done, so that the number open at
// one time is bounded by the limit and the threads that use them. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "flatbed/result.hpp"

namespace flatbed {

template <typename T>
class LruPool {
 public:
  explicit LruPool(std::size_t limit) : limit_(limit) {}

  // A key of its own for one more resource, which is not open yet.
  [[nodiscard]] std::uint32_t add() {
    const std::lock_guard lock(mutex_);
    slots_.emplace_back();
    return static_cast<std::uint32_t>(slots_.size() - 1);
  }

  // The resource of `key`, made by `open()`, a Result<T>, where it is not in the pool. Two threads
  // may open the same one at the same time; both then use it. Errors: those of `open`; the pool
  // makes room and tries once more where the system has none (resource_exhausted).
  template <typename Open>
  [[nodiscard]] Result<std::shared_ptr<const T>> get(std::uint32_t key, Open open) {
    if (std::shared_ptr<const T> found = find(key)) return found;
    Result<T> opened = open();
    if (!opened && opened.error().code == ErrorCode::resource_exhausted) {
      clear();
      opened = open();
    }
    if (!opened) return std::move(opened).error();
    return put(key, *std::move(opened));
  }

  // Puts an open resource into the pool.
  std::shared_ptr<const T> put(std::uint32_t key, T resource) {
    auto added = std::make_shared<const T>(std::move(resource));
    std::shared_ptr<const T> evicted;  // is closed after the lock is released
    const std::lock_guard lock(mutex_);
    Slot& slot = slots_[key];
    if (slot.resource) return slot.resource;  // another thread was faster
    if (count_ >= limit_) {
      evicted = std::move(oldest().resource);
    } else {
      ++count_;
    }
    slot = {added, ++clock_};
    return added;
  }

 private:
  struct Slot {
    std::shared_ptr<const T> resource;
    std::uint64_t used = 0;  // by clock_
  };

  std::shared_ptr<const T> find(std::uint32_t key) {
    const std::lock_guard lock(mutex_);
    slots_[key].used = ++clock_;
    return slots_[key].resource;
  }

  // Of those that are open. There is one: the limit is not 0.
  Slot& oldest() {
    Slot* oldest = nullptr;
    for (Slot& slot : slots_) {
      if (slot.resource && (oldest == nullptr || slot.used < oldest->used)) oldest = &slot;
    }
    return *oldest;
  }

  void clear() {
    std::vector<std::shared_ptr<const T>> closed;
    const std::lock_guard lock(mutex_);
    for (Slot& slot : slots_) {
      if (slot.resource) closed.push_back(std::move(slot.resource));
    }
    count_ = 0;
  }

  const std::size_t limit_;
  std::mutex mutex_;  // guards what follows
  std::vector<Slot> slots_;
  std::size_t count_ = 0;  // of those that are open
  std::uint64_t clock_ = 0;
};

}  // namespace flatbed
