// WireWriter and WireReader: numbers and texts as bytes, for messages between ranks. A number is
// LEB128: seven bits a byte, the lowest first, the top bit set in all but the last one. A text is
// its length and its bytes. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace flatbed {

class WireWriter {
 public:
  void number(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<std::byte>(value | 0x80));
    bytes_.push_back(static_cast<std::byte>(value));
  }
  void text(std::string_view text) {
    number(text.size());
    for (const char c : text) bytes_.push_back(static_cast<std::byte>(c));
  }
  [[nodiscard]] std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

// Reads what another process wrote: after a malformed value all are 0 or empty, and ok() is false.
class WireReader {
 public:
  explicit WireReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  [[nodiscard]] std::uint64_t number() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<std::uint64_t>(rest_.front());
      rest_ = rest_.subspan(1);
      if (shift == 63 && byte > 1) break;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return fail();
  }
  // At most `most`.
  [[nodiscard]] std::uint64_t number(std::uint64_t most) {
    const std::uint64_t value = number();
    return value <= most ? value : fail();
  }
  // The number of things that follow, of at least `least_nbytes` each.
  [[nodiscard]] std::size_t count(std::size_t least_nbytes) {
    return static_cast<std::size_t>(number(rest_.size() / least_nbytes));
  }
  [[nodiscard]] std::string text() {
    const std::size_t length = count(1);
    const auto* const data = reinterpret_cast<const char*>(rest_.data());
    const std::string text(data, std::min(length, rest_.size()));
    rest_ = rest_.subspan(text.size());
    return text;
  }
  [[nodiscard]] bool ok() const noexcept { return ok_; }
  [[nodiscard]] bool at_end() const noexcept { return ok_ && rest_.empty(); }

 private:
  std::uint64_t fail() {
    ok_ = false;
    rest_ = {};
    return 0;
  }

  std::span<const std::byte> rest_;
  bool ok_ = true;
};

}  // namespace flatbed
