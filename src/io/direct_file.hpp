// DirectFile: a file that is read with O_DIRECT, for data that is read once and not in the page
// cache. Owns a descriptor for the same file as its source, even if that was renamed, replaced or
// unlinked since. Move-only; read_at() is thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "io/descriptor.hpp"

namespace flatbed {

class DirectFile {
 public:
  // Returns nullopt if the source has no descriptor, or its file cannot be opened with O_DIRECT.
  // Then read `source` itself.
  [[nodiscard]] static std::optional<DirectFile> open(const ByteSource& source);

  // The alignment of offsets, sizes and addresses in bytes; a power of two, at least 512.
  [[nodiscard]] std::size_t alignment() const noexcept { return alignment_; }

  // Open for reading with O_DIRECT as long as this object lives.
  [[nodiscard]] int descriptor() const noexcept { return descriptor_.get(); }

  // Reads from `offset` until `out` is full, and returns the number of bytes read. It is lower at
  // the end of the file, which `out` may extend past, and where the kernel stops at an unaligned
  // byte: read the rest another way. Offset, size and address of `out` must be aligned. Retries
  // EINTR. Errors: unsupported_filesystem (EINVAL, EOPNOTSUPP: the system refuses after all), and
  // those of the system.
  [[nodiscard]] Result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> out) const;

 private:
  DirectFile(std::string place, Descriptor descriptor, std::size_t alignment);

  std::string place_;  // quoted path, for errors
  Descriptor descriptor_;
  std::size_t alignment_ = 4096;
};

}  // namespace flatbed
