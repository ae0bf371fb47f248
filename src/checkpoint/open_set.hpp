// Sharded sets: the files that an index describes, and those of a folder without one (spec H1 to
// H4). Those that the caller lists are opened by Checkpoint::open_shards(). The results are as
// thread-safe as every Checkpoint.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "flatbed/source_folder.hpp"
#include "io/file.hpp"

namespace flatbed {

// Opens the set that an index describes. Its files are in the same folder or below it.
[[nodiscard]] Result<Checkpoint> open_set(const File& index, const OpenOptions& options);

// Opens the complete set of a folder without an index, from find_model(). As
// Checkpoint::open_shards(), but a file whose content is not of the kind that its name states is
// unsupported_format, as it is in a set with an index.
[[nodiscard]] Result<Checkpoint> open_set(const std::vector<std::filesystem::path>& shards,
                                          const OpenOptions& options);

// The same of a folder that is not local: the set of the index `name`, whose content is given, and
// the one of the shards that find_model() found. Neither knows links. Errors of shards begin with
// their names.
[[nodiscard]] Result<Checkpoint> open_set(const SourceFolder& folder, const ByteSource& index_file,
                                          std::string_view name, const OpenOptions& options);
[[nodiscard]] Result<Checkpoint> open_set(const SourceFolder& folder,
                                          const std::vector<std::string>& names,
                                          const OpenOptions& options);

}  // namespace flatbed
