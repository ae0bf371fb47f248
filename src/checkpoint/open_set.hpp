// Sharded sets: the files that an index describes, or that the caller lists (spec H1 to H4).
// Functions; what they return is thread-safe as every Checkpoint.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "io/file.hpp"

namespace flatbed {

// The set that an index describes; its files lie in the same folder.
[[nodiscard]] Result<Checkpoint> open_set(const File& index, const OpenOptions& options);
// The files that an index names, unopened.
[[nodiscard]] Result<std::vector<std::filesystem::path>> list_shards(const File& index);
// The one index of a directory, or its only safetensors file.
[[nodiscard]] Result<std::filesystem::path> find_index(const std::filesystem::path& directory);

}  // namespace flatbed
