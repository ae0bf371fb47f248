// DamagingSource: bytes that a test builds, one of which is damaged on the way, as over a network.
// Thread-safe.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "flatbed/byte_source.hpp"
#include "support/bytes_source.hpp"

namespace flatbed::test {

// A source on whose way one byte is changed, at first.
class DamagingSource final : public ByteSource {
 public:
  DamagingSource(std::string bytes, std::uint64_t at, int times)
      : left(times), inner_(std::move(bytes)), at_(at) {}

  [[nodiscard]] std::string_view label() const noexcept override { return "far"; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return inner_.size(); }
  [[nodiscard]] Result<void> read_at(std::uint64_t offset,
                                     std::span<std::byte> out) const override {
    FLATBED_TRY(inner_.read_at(offset, out));
    if (at_ < offset || at_ - offset >= out.size()) return {};
    const bool damages = left-- > 0;
    if (++reads == also || damages) out[static_cast<std::size_t>(at_ - offset)] ^= std::byte{4};
    return {};
  }
  [[nodiscard]] std::size_t preferred_read_nbytes() const noexcept override { return preferred; }
  [[nodiscard]] unsigned max_rereads() const noexcept override { return 3; }
  [[nodiscard]] Result<void> reread_at(std::uint64_t offset,
                                       std::span<std::byte> out) const override {
    ++rereads;
    largest = std::max(largest.load(), out.size());
    cancel = cancels.load();
    return read_at(offset, out);
  }

  mutable std::atomic<int> left;       // times that the byte is still changed
  mutable std::atomic<int> reads = 0;  // of the byte
  std::atomic<int> also = 0;           // this one of them is damaged, too; the first is 1
  mutable std::atomic<int> rereads = 0;
  mutable std::atomic<std::size_t> largest = 0;
  mutable std::atomic<bool> cancel = false;  // is set by a reread, if it cancels
  std::atomic<bool> cancels = false;
  std::size_t preferred = std::size_t{256} << 10;

 private:
  BytesSource inner_;
  std::uint64_t at_;
};

}  // namespace flatbed::test
