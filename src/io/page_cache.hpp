// cached_fraction(): how much of a file is in the page cache, to choose how to read it. Waits
// for no reads, maps nothing. Thread-safe.
#pragma once

#include <cstdint>
#include <optional>

#include "flatbed/byte_source.hpp"

namespace flatbed {

// Of the pages of [offset, offset + nbytes), from 0 to 1, where the kernel has cachestat(2) and
// allows it: of all pages up to 4096, of 64 windows of larger ranges. Elsewhere from a sample of at
// most 64 pages (RWF_NOWAIT). Nothing where it cannot be told, or there is no descriptor. An empty
// range is 1.
[[nodiscard]] std::optional<double> cached_fraction(const ByteSource& source, std::uint64_t offset,
                                                    std::uint64_t nbytes);

}  // namespace flatbed
