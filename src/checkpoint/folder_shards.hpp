// The files of a set in a folder that is not local, opened on several threads, because each waits
// for the network. Stateless, thread-safe.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/sniff.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/source_folder.hpp"
#include "io/container.hpp"

namespace flatbed {

// H2: a file that belongs to a set by its name must be of the kind that the name states. Errors:
// those of sniff(), unsupported_format.
[[nodiscard]] Result<Content> sniff_as_named(const ByteSource& file, std::string_view name);

// The file `name` of the folder, guarded. Errors: those of the folder; invalid_argument (it gave
// no source).
[[nodiscard]] Result<std::shared_ptr<const ByteSource>> open_in(const SourceFolder& folder,
                                                                const std::string& name);

// The files in the given order, of which each is of the kind that its name states. Errors, which
// begin with the file's name: shard_missing, those of the files. Of several the error is that of
// the first file, whichever thread was faster.
[[nodiscard]] Result<std::vector<std::unique_ptr<Container>>> open_shards_of(
    const SourceFolder& folder, const std::vector<std::string>& names, const OpenOptions& options);

}  // namespace flatbed
