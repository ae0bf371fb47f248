// LeasedPool: the leased files of several threads, each of which needs one of its own for as long
// as it reads. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "flatbed/byte_source.hpp"
#include "io/leased_file.hpp"
#include "io/page_cache.hpp"

namespace flatbed {

// Files that one pool has and nobody reads: each takes a descriptor.
inline constexpr std::size_t kMostIdle = 16;

enum class LeaseUse : std::uint8_t {
  while_it_pays,  // LeasedFile::pays()
  whenever_possible,
};

class LeasedPool {
  struct Member {
    const ByteSource* source = nullptr;
    std::unique_ptr<LeasedFile> file;  // null: there is none
  };

 public:
  explicit LeasedPool(LeaseUse use = LeaseUse::while_it_pays) : use_(use) {}

  // Bytes that nobody can change until this object is gone. Move-only; borrows the pool.
  class Pages {
   public:
    Pages(Pages&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)),
          member_(std::move(other.member_)),
          pages_(std::move(other.pages_)) {}
    Pages& operator=(Pages&& other) noexcept {
      std::swap(pool_, other.pool_);
      std::swap(member_, other.member_);
      std::swap(pages_, other.pages_);
      return *this;
    }
    ~Pages();

    // `range` within that of the pages; offsets in the file.
    [[nodiscard]] std::span<const std::byte> bytes(const FileRange& range) const noexcept {
      return pages_.bytes(range);
    }

   private:
    friend class LeasedPool;
    Pages(LeasedPool& pool, Member member, LeasedFile::Pages pages)
        : pool_(&pool), member_(std::move(member)), pages_(std::move(pages)) {}

    LeasedPool* pool_;
    Member member_;
    LeasedFile::Pages pages_;
  };

  // Of a source that outlives the pool. Returns nullopt if they are not to be had, or are not worth
  // it; then read the source. A source that may have to be read again (max_rereads()) has none.
  [[nodiscard]] std::optional<Pages> pages(const ByteSource& source, const FileRange& range);

 private:
  [[nodiscard]] Member take(const ByteSource& source);
  void give_back(Member member);

  const LeaseUse use_;
  std::mutex mutex_;          // guards idle_
  std::vector<Member> idle_;  // at most kMostIdle
};

}  // namespace flatbed
