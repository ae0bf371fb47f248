// ListedDamage: bytes that a test builds, some of which are damaged on the way, each in one read
// that the test names. Thread-safe but for damage().
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flatbed/byte_source.hpp"
#include "support/bytes_source.hpp"

namespace flatbed::test {

enum class Way : std::uint8_t { read, reread };

// The byte `at` is changed in the read or reread of it with this number; the first one is 1.
struct Damage {
  std::uint64_t at;
  Way way;
  int number;
};

class ListedDamage final : public ByteSource {
 public:
  explicit ListedDamage(std::string bytes) : inner_(std::move(bytes)) {}

  // In reads from now on.
  void damage(const std::vector<Damage>& list) {
    waiting_ = list;
    rereads = 0;
    reread_nbytes = 0;
  }
  // Whether each read that was named has come.
  [[nodiscard]] bool all_came() const {
    for (const Damage& damage : waiting_) {
      if (damage.number > 0) return false;
    }
    return true;
  }

  [[nodiscard]] std::string_view label() const noexcept override { return "far"; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return inner_.size(); }
  [[nodiscard]] Result<void> read_at(std::uint64_t offset,
                                     std::span<std::byte> out) const override {
    return read(Way::read, offset, out);
  }
  [[nodiscard]] unsigned max_rereads() const noexcept override { return 3; }
  [[nodiscard]] Result<void> reread_at(std::uint64_t offset,
                                       std::span<std::byte> out) const override {
    return read(Way::reread, offset, out);
  }

  mutable int rereads = 0;
  mutable std::uint64_t reread_nbytes = 0;

 private:
  Result<void> read(Way way, std::uint64_t offset, std::span<std::byte> out) const {
    FLATBED_TRY(inner_.read_at(offset, out));
    const std::lock_guard lock(mutex_);
    if (way == Way::reread) {
      ++rereads;
      reread_nbytes += out.size();
    }
    for (Damage& damage : waiting_) {
      if (damage.way != way || damage.at < offset || damage.at - offset >= out.size()) continue;
      if (--damage.number == 0) out[static_cast<std::size_t>(damage.at - offset)] ^= std::byte{4};
    }
    return {};
  }

  BytesSource inner_;
  mutable std::mutex mutex_;
  mutable std::vector<Damage> waiting_;  // whose numbers count down
};

}  // namespace flatbed::test
