// DirectFile: a file read past the page cache (O_DIRECT), for what is read once and is not in it.
// Owns a descriptor of its own, for the same file as the source it was made from, even when that
// has been renamed, replaced or unlinked since. Move-only; read_at() is thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

class DirectFile {
 public:
  // Nothing where the source has no descriptor, or its file cannot be opened so: read `source`
  // itself instead.
  [[nodiscard]] static std::optional<DirectFile> open(const ByteSource& source);

  DirectFile(DirectFile&& other) noexcept;
  DirectFile& operator=(DirectFile&& other) noexcept;
  ~DirectFile();

  // What offsets, sizes and addresses must be a multiple of; a power of two, at least 512.
  [[nodiscard]] std::size_t alignment() const noexcept { return alignment_; }

  // Reads from `offset` until `out` is full; returns how many bytes arrived. Fewer arrive at the
  // end of the file, which `out` may reach beyond, and where the kernel stops at an unaligned byte:
  // read the rest another way. Offset, size and address of `out` are aligned. Retries EINTR.
  // Errors: unsupported_filesystem (EINVAL, EOPNOTSUPP: the system refuses after all), the
  // system's.
  [[nodiscard]] Result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> out) const;

 private:
  DirectFile(std::string place, int descriptor, std::size_t alignment);

  std::string place_;  // quoted path, for errors
  int descriptor_ = -1;
  std::size_t alignment_ = 4096;
};

}  // namespace flatbed
