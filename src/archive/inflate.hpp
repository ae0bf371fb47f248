// InflateReader: random access into one deflated zip record (raw deflate, RFC 1951).
//
// Reading at ascending offsets inflates each byte once. Reading elsewhere continues from the
// nearest of at most 64 kept states. They are 16 MiB apart (more in larger records), so that a jump
// costs a bounded amount of work. Owns its buffers and states. Borrows the file, which must outlive
// it. Move-only, not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"

namespace flatbed::pth {

// The place of a deflated record, and its inflated size according to the directory entry.
struct DeflatedRecord {
  std::uint64_t stored_offset = 0;
  std::uint64_t stored_nbytes = 0;
  std::uint64_t nbytes = 0;
};

// One deflated byte yields at most 1,032 bytes, so a record that claims more is refused before it
// is inflated.
inline constexpr std::uint64_t kMaxInflateRatio = 1032;
[[nodiscard]] constexpr bool may_inflate_to(std::uint64_t stored_nbytes,
                                            std::uint64_t nbytes) noexcept {
  return nbytes / kMaxInflateRatio <= stored_nbytes;
}

inline constexpr std::uint64_t kInflateInterval = 16 * 1024 * 1024;

class InflateReader {
 public:
  // `interval` is the initial distance between kept states, in bytes. Errors: zip_deflate_malformed
  // (an impossible ratio), zip_out_of_bounds, resource_exhausted.
  [[nodiscard]] static Result<InflateReader> open(const ByteSource& file,
                                                  const DeflatedRecord& record,
                                                  std::uint64_t interval = kInflateInterval);

  InflateReader(InflateReader&&) noexcept;
  InflateReader& operator=(InflateReader&&) noexcept;
  ~InflateReader();

  // Fills `out` from `offset` of the inflated record. A read up to the end also checks that the
  // stream ends there. Errors: zip_deflate_malformed, invalid_argument (outside the record), and
  // those of File::read_at.
  [[nodiscard]] Result<void> read(std::uint64_t offset, std::span<std::byte> out);

 private:
  struct State;
  explicit InflateReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace flatbed::pth
