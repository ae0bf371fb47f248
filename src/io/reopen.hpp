// reopen(): one more descriptor for the file of a source, with flags of its own. Thread-safe.
#pragma once

#include "flatbed/byte_source.hpp"
#include "io/descriptor.hpp"

namespace flatbed {

// Opens the file for reading with `flags` (such as O_DIRECT) besides, even if it was renamed,
// replaced or unlinked since. Without a number if the source has no descriptor, or if its file
// cannot be opened so.
[[nodiscard]] Descriptor reopen(const ByteSource& source, int flags);

}  // namespace flatbed
