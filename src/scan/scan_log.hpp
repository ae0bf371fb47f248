// ScanLog: the findings of one file, up to a limit, and the file's size, by which the memory of its
// scan is limited. Not thread-safe.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flatbed/scan_finding.hpp"
#include "io/name_index.hpp"

namespace flatbed::pth {

inline constexpr std::size_t kMaxFindings = 10'000;           // of each severity
inline constexpr std::size_t kMaxFindingBytes = 8 << 20;      // of their texts, of each severity
inline constexpr std::uint64_t kFreeUnpackBytes = 32 << 20;   // that a file may unpack to
inline constexpr std::uint64_t kMaxUnpackRatio = 16;          // or so many times its size
inline constexpr std::uint64_t kMaxUnpackBytes = 1ULL << 30;  // but not more

// What ScanLog::take_work() refused.
inline constexpr std::string_view kOutOfWork =
    "not scanned: the records together are too large for the size of the file";

class ScanLog {
 public:
  explicit ScanLog(const std::atomic<bool>* cancel = nullptr,
                   std::uint64_t file_nbytes = UINT64_MAX)
      : cancel_(cancel), file_nbytes_(file_nbytes) {
    unpackable_ = file_nbytes > kMaxUnpackBytes / kMaxUnpackRatio
                      ? kMaxUnpackBytes
                      : std::max(file_nbytes * kMaxUnpackRatio, kFreeUnpackBytes);
    // Records may overlap, and files in archives too: this limits the work for all of them.
    work_ = std::min(file_nbytes, UINT64_MAX / 4) * 2 + unpackable_ * 4;
  }

  // A finding that differs from an earlier one only in its place adds to that one's count. The
  // verdict includes it even if the list is full.
  void add(ScanFinding finding);

  // Records that something is wrong with a container at a byte of the file.
  void container(std::string record, std::uint64_t offset, std::string text);

  // Records something that cannot be judged.
  void unknown(ScanKind kind, std::string record, std::string text);

  // What follows is about contents of this record: the names of findings begin with it.
  void enter(std::string_view record);
  void leave();

  // Takes from the bytes that may be unpacked into memory at a time; gives them back.
  [[nodiscard]] std::uint64_t unpackable() const noexcept { return unpackable_; }
  void take_unpacked(std::uint64_t nbytes) noexcept { unpackable_ -= nbytes; }
  void give_back(std::uint64_t nbytes) noexcept { unpackable_ += nbytes; }

  // The bytes of records and of compressed files that may still be looked at, all in all. False
  // where fewer than `nbytes` are left, which are then not taken.
  [[nodiscard]] std::uint64_t work() const noexcept { return work_; }
  [[nodiscard]] bool take_work(std::uint64_t nbytes) noexcept {
    if (nbytes > work_) return false;
    work_ -= nbytes;
    return true;
  }

  [[nodiscard]] std::uint64_t file_nbytes() const noexcept { return file_nbytes_; }
  [[nodiscard]] const std::atomic<bool>* cancel() const noexcept { return cancel_; }

  // Where the names in an index go if its files are scanned next; null if they are not. Borrowed.
  void set_index_names(std::set<std::string>* names) noexcept { index_names_ = names; }
  [[nodiscard]] std::set<std::string>* index_names() const noexcept { return index_names_; }

  void count_pickle() noexcept { ++pickles_; }
  [[nodiscard]] bool cancelled() const noexcept {
    return cancel_ != nullptr && cancel_->load(std::memory_order_relaxed);
  }

  [[nodiscard]] ScanVerdict verdict() const noexcept { return verdict_; }
  [[nodiscard]] std::uint64_t pickles() const noexcept { return pickles_; }
  [[nodiscard]] bool complete() const noexcept { return complete_; }
  [[nodiscard]] std::vector<ScanFinding> take() { return std::move(findings_); }

 private:
  const std::atomic<bool>* cancel_;
  std::uint64_t file_nbytes_;
  std::set<std::string>* index_names_ = nullptr;
  std::uint64_t unpackable_ = 0;
  std::uint64_t work_ = 0;
  std::vector<std::string> within_;  // the records that the findings are about, outermost first
  std::vector<ScanFinding> findings_;
  std::vector<std::string> keys_;  // of the findings, for index_
  NameIndex index_;
  std::array<std::size_t, 3> counts_{};
  std::array<std::size_t, 3> nbytes_{};
  ScanVerdict verdict_ = ScanVerdict::plain;
  std::uint64_t pickles_ = 0;
  bool complete_ = true;
};

}  // namespace flatbed::pth
