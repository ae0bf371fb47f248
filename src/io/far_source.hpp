// is_far(): whether a source is far away: each of its reads waits for a network, so they should be
// few and large, and several under way at once. Thread-safe.
#pragma once

#include <cstddef>

#include "flatbed/byte_source.hpp"

namespace flatbed {

// Said of sources that prefer to read this much at once, or more. Disks prefer less.
inline constexpr std::size_t kFarReadNbytes = std::size_t{1} << 20;

[[nodiscard]] inline bool is_far(const ByteSource& source) noexcept {
  return source.preferred_read_nbytes() >= kFarReadNbytes;
}

}  // namespace flatbed
