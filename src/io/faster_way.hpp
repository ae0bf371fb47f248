// FasterWay: chooses between two ways to do the same, 0 and 1. Both are tried by turns; then it
// keeps to the one whose best try took less time a byte: others may have been interrupted. Not
// thread-safe.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <limits>

namespace flatbed {

class FasterWay {
 public:
  static constexpr unsigned kTries = 8;

  // To take next.
  [[nodiscard]] unsigned way() const noexcept {
    if (!is_chosen()) return times_ % 2;
    return best_[1] < best_[0] ? 1 : 0;
  }

  [[nodiscard]] bool is_chosen() const noexcept { return times_ == kTries; }

  // How long that way took for bytes, at least one. Without effect once one is chosen.
  void took(std::chrono::steady_clock::duration time, std::uint64_t nbytes) noexcept {
    if (is_chosen()) return;
    double& best = best_.at(way());
    best = std::min(best, static_cast<double>(time.count()) / static_cast<double>(nbytes));
    ++times_;
  }

 private:
  std::array<double, 2> best_ = {std::numeric_limits<double>::infinity(),
                                 std::numeric_limits<double>::infinity()};  // time a byte
  unsigned times_ = 0;
};

}  // namespace flatbed
