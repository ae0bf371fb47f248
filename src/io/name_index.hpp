// NameIndex: a hash table from texts to numbers, for duplicates and lookup by name. It stores no
// texts: the caller owns them and passes a function from number to text. Owns its slots. Build it
// on one thread; then find() from any.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "io/digest.hpp"
#include "io/large_allocator.hpp"

namespace flatbed {

// A seed for hash tables over names, unknown to files.
[[nodiscard]] std::uint64_t random_seed() noexcept;

class NameIndex {
 public:
  // Has no memory and no seed until the first name comes.
  NameIndex() = default;
  explicit NameIndex(std::size_t expected) : NameIndex(expected, random_seed()) {}
  // For many small tables, with the caller's random_seed(), because getting one is a system call.
  NameIndex(std::size_t expected, std::uint64_t seed) : seed_(seed) { grow(expected); }

  [[nodiscard]] std::size_t size() const noexcept { return count_; }

  // Adds `number` under `name`. If an equal name exists, returns its number and changes nothing.
  // `text_of(n)` returns the name of a number that was added.
  template <typename TextOf>
  std::optional<std::uint32_t> insert(std::string_view name, std::uint32_t number, TextOf text_of) {
    if ((count_ + 1) * 2 > slots_.size()) rehash(text_of);
    return insert_hashed(name, xxh3_seeded(name, seed_), number, text_of);
  }

  // Adds the numbers 0 to `count` - 1 to an index without any, in this order, up to the first one
  // whose name an earlier one has, and returns that one. Single calls wait for one slot of a large
  // table after the other; this waits for several at once.
  template <typename TextOf>
  std::optional<std::uint32_t> insert_all(std::uint32_t count, TextOf text_of) {
    if (slots_.empty()) seed_ = random_seed();
    if (count * std::size_t{2} > slots_.size()) grow(count);
    std::array<std::uint64_t, 16> hashes;
    for (std::uint32_t begin = 0; begin < count;) {
      const std::uint32_t end = begin + std::min<std::uint32_t>(hashes.size(), count - begin);
      for (std::uint32_t i = begin; i < end; ++i) {
        hashes[i - begin] = xxh3_seeded(text_of(i), seed_);
        __builtin_prefetch(&slots_[hashes[i - begin] & (slots_.size() - 1)], 1);
      }
      for (std::uint32_t i = begin; i < end; ++i) {
        if (insert_hashed(text_of(i), hashes[i - begin], i, text_of)) return i;
      }
      begin = end;
    }
    return std::nullopt;
  }

  template <typename TextOf>
  [[nodiscard]] std::optional<std::uint32_t> find(std::string_view name, TextOf text_of) const {
    if (count_ == 0) return std::nullopt;
    const std::uint64_t hash = xxh3_seeded(name, seed_);
    for (std::size_t at = hash & (slots_.size() - 1); slots_[at].number != kFree;
         at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].check == check_of(hash) && text_of(slots_[at].number) == name)
        return slots_[at].number;
    }
    return std::nullopt;
  }

  // Replaces every number n by number_of(n).
  template <typename NumberOf>
  void renumber(NumberOf number_of) {
    for (Slot& slot : slots_) {
      if (slot.number != kFree) slot.number = number_of(slot.number);
    }
  }

 private:
  static constexpr std::uint32_t kFree = 0xFFFFFFFF;
  struct Slot {
    std::uint32_t check = 0;  // upper half of the hash, which saves most text comparisons
    std::uint32_t number = kFree;
  };

  static std::uint32_t check_of(std::uint64_t hash) noexcept {
    return static_cast<std::uint32_t>(hash >> 32);
  }

  // There is a free slot.
  template <typename TextOf>
  std::optional<std::uint32_t> insert_hashed(std::string_view name, std::uint64_t hash,
                                             std::uint32_t number, TextOf text_of) {
    std::size_t at = hash & (slots_.size() - 1);
    for (; slots_[at].number != kFree; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].check == check_of(hash) && text_of(slots_[at].number) == name)
        return slots_[at].number;
    }
    slots_[at] = {check_of(hash), number};
    ++count_;
    return std::nullopt;
  }

  void grow(std::size_t expected) {
    std::size_t capacity = 16;
    while (capacity < expected * 2) capacity *= 2;
    slots_.assign(capacity, Slot{});
  }

  template <typename TextOf>
  void rehash(TextOf text_of) {
    const LargeVector<Slot> old = std::move(slots_);
    if (old.empty()) seed_ = random_seed();
    grow(old.size());
    for (const Slot& slot : old) {
      if (slot.number == kFree) continue;
      std::size_t at = xxh3_seeded(text_of(slot.number), seed_) & (slots_.size() - 1);
      while (slots_[at].number != kFree) at = (at + 1) & (slots_.size() - 1);
      slots_[at] = slot;
    }
  }

  LargeVector<Slot> slots_;
  std::size_t count_ = 0;
  std::uint64_t seed_ = 0;
};

}  // namespace flatbed
