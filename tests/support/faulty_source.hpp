// FaultySource: a source that lies. Its bytes are sound; on request a read of it fails, it shrinks,
// it says that it has changed, or it is slow. Several sources can share one Faults, which counts
// the reads of all of them. Thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "base/str_cat.hpp"
#include "flatbed/byte_source.hpp"

namespace flatbed::test {

// Reads are counted from 1; 0: never.
struct Faults {
  std::uint64_t fail_at = 0;    // this read fails with io_error
  std::uint64_t shrink_at = 0;  // from this read on, only the first half of the bytes is there
  bool changed = false;         // check_unchanged() says so
  std::chrono::microseconds delay{0};  // of each read
  std::function<void()> before_delay = {};
  std::size_t preferred_read_nbytes = std::size_t{256} << 10;
  std::atomic<std::uint64_t> reads = 0;
  std::atomic<std::uint64_t> largest = 0;  // bytes of the largest read
};

class FaultySource final : public ByteSource {
 public:
  FaultySource(std::string bytes, std::string label, std::shared_ptr<Faults> faults)
      : bytes_(std::move(bytes)), label_(std::move(label)), faults_(std::move(faults)) {}

  [[nodiscard]] std::string_view label() const noexcept override { return label_; }
  [[nodiscard]] std::uint64_t size() const noexcept override {
    return is_short() ? bytes_.size() / 2 : bytes_.size();
  }
  [[nodiscard]] Result<void> read_at(std::uint64_t offset,
                                     std::span<std::byte> out) const override {
    const std::uint64_t number = ++faults_->reads;
    std::uint64_t largest = faults_->largest;
    while (largest < out.size() && !faults_->largest.compare_exchange_weak(largest, out.size())) {
    }
    if (faults_->before_delay) faults_->before_delay();
    std::this_thread::sleep_for(faults_->delay);
    if (number == faults_->fail_at) return Error{ErrorCode::io_error, "the line went dead"};
    if (offset + out.size() > size()) return Error{ErrorCode::file_changed, "it ends early"};
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
    return {};
  }
  [[nodiscard]] Result<void> check_unchanged() const override {
    if (faults_->changed) return Error{ErrorCode::file_changed, "another version is there"};
    return {};
  }
  [[nodiscard]] std::size_t preferred_read_nbytes() const noexcept override {
    return faults_->preferred_read_nbytes;
  }

 private:
  [[nodiscard]] bool is_short() const noexcept {
    return faults_->shrink_at != 0 && faults_->reads >= faults_->shrink_at;
  }

  std::string bytes_;
  std::string label_;
  std::shared_ptr<Faults> faults_;
};

}  // namespace flatbed::test
