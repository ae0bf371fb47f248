// Bytes that do not match their digest are read once more where they may have been damaged on the
// way (ByteSource::max_rereads()). Pure but for the reading; as thread-safe as the source.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "io/large_allocator.hpp"

namespace flatbed {

// Bytes of a source, as they were read.
struct ReadBytes {
  const ByteSource& source;
  std::uint64_t offset = 0;
  std::span<std::byte> bytes;
};

// Whether matches(bytes), at last after reading them again, each time of which adds to `rereads`.
// A record that does not inflate counts as a mismatch. Errors: those of the source.
template <typename Matches>
[[nodiscard]] Result<bool> matches_or_reread(const ReadBytes& read, std::uint64_t& rereads,
                                             Matches matches) {
  if (matches(read.bytes)) return true;
  for (unsigned left = read.source.max_rereads(); left > 0; --left) {
    ++rereads;
    const Result<void> again = read.source.reread_at(read.offset, read.bytes);
    if (!again && again.error().code == ErrorCode::zip_deflate_malformed) continue;
    FLATBED_TRY(again);
    if (matches(read.bytes)) return true;
  }
  return false;
}

// What a RereadSource reads at once.
struct RereadAhead {
  std::size_t nbytes = 0;  // at least
  std::uint64_t end = 0;   // and up to here, an offset in the source
  const std::atomic<bool>* cancel = nullptr;
};

// A source whose every byte comes from reread_at(), for readers that put together what they read,
// in small reads from the front to the back. Borrows the source. Not thread-safe. Errors: those of
// the source, cancelled, resource_exhausted.
class RereadSource final : public ByteSource {
 public:
  RereadSource(const ByteSource& source, const RereadAhead& ahead)
      : source_(source), ahead_(ahead) {}

  [[nodiscard]] std::string_view label() const noexcept override { return source_.label(); }
  [[nodiscard]] std::uint64_t size() const noexcept override { return source_.size(); }
  [[nodiscard]] Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override;

 private:
  [[nodiscard]] Result<void> fill(std::uint64_t offset) const;

  const ByteSource& source_;
  RereadAhead ahead_;
  mutable LargeBlock block_;
  mutable std::uint64_t begin_ = 0;  // of what the block holds
  mutable std::size_t nbytes_ = 0;
};

}  // namespace flatbed
