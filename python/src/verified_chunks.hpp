// VerifiedChunks: which chunks of a file matched their digests since it was last changed.
// VerifiedFiles: the same for many files, by their identity, so that a file that is opened again is
// not hashed again, and the threads that hash. Both are thread-safe and know nothing of Python.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "pieces.hpp"

namespace flatbed::python {

class VerifiedChunks {
 public:
  explicit VerifiedChunks(std::uint64_t chunks) : words_((chunks + kBits - 1) / kBits) {}

  [[nodiscard]] bool has(std::uint64_t chunk) const noexcept {
    return (words_[chunk / kBits].load(std::memory_order_relaxed) >> (chunk % kBits) & 1) != 0;
  }
  void add(std::uint64_t chunk) noexcept {
    words_[chunk / kBits].fetch_or(std::uint64_t{1} << (chunk % kBits), std::memory_order_relaxed);
    any_.store(true, std::memory_order_relaxed);
  }
  void add_all() noexcept {
    for (auto& word : words_) word.store(~std::uint64_t{0}, std::memory_order_relaxed);
    any_.store(true, std::memory_order_relaxed);
  }
  [[nodiscard]] bool any() const noexcept { return any_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::uint64_t kBits = 64;
  std::vector<std::atomic<std::uint64_t>> words_;
  std::atomic<bool> any_ = false;
};

// What tells one state of a file from another: any write to it changes the times.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t nbytes = 0;
  std::int64_t modified_ns = 0;
  std::int64_t changed_ns = 0;  // cannot be set by programs
  bool is_folder = false;

  auto operator<=>(const FileIdentity&) const = default;

  // nullopt: there is no such file, or it cannot be asked.
  [[nodiscard]] static std::optional<FileIdentity> of(const std::filesystem::path& path);
  // Whether a write that follows is sure to show in the times, which advance in steps.
  [[nodiscard]] bool is_settled() const;
};

class VerifiedFiles {
 public:
  static constexpr std::size_t kMaxFiles = 4096;  // the oldest is forgotten first

  // What is known of the file in this state with these digests (`content`: the seal's); the same
  // object for the same state. `chunks`: how many it has.
  [[nodiscard]] std::shared_ptr<VerifiedChunks> of(const FileIdentity& identity,
                                                   const std::string& content,
                                                   std::uint64_t chunks);
  // The threads of those who read the files, which keep them, too.
  [[nodiscard]] const std::shared_ptr<Crew>& crew() const { return crew_; }
  void clear();
  [[nodiscard]] std::size_t size() const;

 private:
  using Key = std::pair<FileIdentity, std::string>;
  mutable std::mutex mutex_;
  std::map<Key, std::shared_ptr<VerifiedChunks>> files_;
  std::list<Key> oldest_first_;
  std::shared_ptr<Crew> crew_ = std::make_shared<Crew>();
};

}  // namespace flatbed::python
