// LruPool: keeps up to `limit` of the most recently used resources that can be opened again. A
// holder of a resource that left the pool keeps it until done, so the number open at one time is
// bounded by the limit and the number of threads. Thread-safe.
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

  // A key for one more resource, which is not open yet.
  [[nodiscard]] std::uint32_t add() {
    const std::lock_guard lock(mutex_);
    slots_.emplace_back();
    return static_cast<std::uint32_t>(slots_.size() - 1);
  }

  // The resource of `key`. If it is not in the pool, `open()` makes it, a Result<T>. Two threads
  // may open the same one at the same time; both then use it. Errors: those of `open`. If the
  // system has no room (resource_exhausted), the pool makes room and tries once more.
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
    std::shared_ptr<const T> evicted;  // closed after the lock is released
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

  // Among those that are open. There is at least one, because the limit is not 0.
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
  std::size_t count_ = 0;  // of open resources
  std::uint64_t clock_ = 0;
};

}  // namespace flatbed
