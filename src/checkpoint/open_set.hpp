// Sharded sets: the files that an index describes (spec H1 to H4). Those that the caller lists are
// opened by Checkpoint::open_shards(). The results are as thread-safe as every Checkpoint.
#pragma once

#include "flatbed/checkpoint.hpp"
#include "io/file.hpp"

namespace flatbed {

// Opens the set that an index describes. Its files are in the same folder or below it.
[[nodiscard]] Result<Checkpoint> open_set(const File& index, const OpenOptions& options);

}  // namespace flatbed
