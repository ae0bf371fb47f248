// cached_fraction(): how much of a file is in the page cache, to choose how to read it. It never
// waits for reads and maps nothing. read_ahead(): asks for what will be read. Thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "flatbed/byte_source.hpp"

namespace flatbed {

// The share of the pages of [offset, offset + nbytes) that are cached, from 0 to 1. If the kernel
// has cachestat(2) and allows it: of all pages up to 4096, of 64 windows of larger ranges.
// Otherwise from a sample of at most 64 pages (RWF_NOWAIT). nullopt if it cannot be determined, or
// there is no descriptor. 1 for an empty range.
[[nodiscard]] std::optional<double> cached_fraction(const ByteSource& source, std::uint64_t offset,
                                                    std::uint64_t nbytes);

// Bytes [begin, end) of a file.
struct FileRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  [[nodiscard]] std::uint64_t nbytes() const noexcept { return end - begin; }
};

// Has the kernel begin to read all of these ranges into the page cache, so that the disk has many
// requests at once, and does not wait for them. It is a hint.
void read_ahead(const ByteSource& source, std::span<const FileRange> ranges);

}  // namespace flatbed
