// ScanLog: the findings of one scan, up to a limit. Not thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "flatbed/scan_finding.hpp"
#include "io/name_index.hpp"

namespace flatbed::pth {

inline constexpr std::size_t kMaxFindings = 10'000;  // of each severity

class ScanLog {
 public:
  explicit ScanLog(const std::atomic<bool>* cancel = nullptr) : cancel_(cancel) {}

  // A finding that differs from an earlier one only in its place adds to that one's count. The
  // verdict includes it even if the list is full.
  void add(ScanFinding finding);

  // Records that something is wrong with a container at a byte of the file.
  void container(std::string record, std::uint64_t offset, std::string text);

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
  std::vector<ScanFinding> findings_;
  std::vector<std::string> keys_;  // of the findings, for index_
  NameIndex index_;
  std::array<std::size_t, 3> counts_{};
  ScanVerdict verdict_ = ScanVerdict::plain;
  std::uint64_t pickles_ = 0;
  bool complete_ = true;
};

}  // namespace flatbed::pth
