// Sharded sets: the files that an index describes, or that the caller lists (spec H1 to H4).
// Functions; their results are as thread-safe as every Checkpoint.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "io/file.hpp"

namespace flatbed {

// Opens the set that an index describes. Its files are in the same folder or below it.
[[nodiscard]] Result<Checkpoint> open_set(const File& index, const OpenOptions& options);
// Lists the files that an index names, without opening them.
[[nodiscard]] Result<std::vector<std::filesystem::path>> list_shards(const File& index);

}  // namespace flatbed
