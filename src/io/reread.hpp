// Bytes that do not match their digest are read once more where they may have been damaged on the
// way (ByteSource::max_rereads()). Pure but for the reading; as thread-safe as the source.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

// Bytes of a source, as they were read.
struct ReadBytes {
  const ByteSource& source;
  std::uint64_t offset = 0;
  std::span<std::byte> bytes;
};

// Whether matches(bytes), at last after reading them again, each time of which adds to `rereads`.
// Errors: those of the source.
template <typename Matches>
[[nodiscard]] Result<bool> matches_or_reread(const ReadBytes& read, std::uint64_t& rereads,
                                             Matches matches) {
  if (matches(read.bytes)) return true;
  for (unsigned left = read.source.max_rereads(); left > 0; --left) {
    ++rereads;
    FLATBED_TRY(read.source.reread_at(read.offset, read.bytes));
    if (matches(read.bytes)) return true;
  }
  return false;
}

// A source whose every read is reread_at(), for readers that put together what they read. Borrows
// the source.
class RereadSource final : public ByteSource {
 public:
  explicit RereadSource(const ByteSource& source) : source_(source) {}

  [[nodiscard]] std::string_view label() const noexcept override { return source_.label(); }
  [[nodiscard]] std::uint64_t size() const noexcept override { return source_.size(); }
  [[nodiscard]] Result<void> read_at(std::uint64_t offset,
                                     std::span<std::byte> out) const override {
    return source_.reread_at(offset, out);
  }

 private:
  const ByteSource& source_;
};

}  // namespace flatbed
