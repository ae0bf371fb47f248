// The model in a folder, as the tools of the hubs leave it (spec H1). Reads the folder's names
// only.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/result.hpp"

namespace flatbed {

struct FolderModel {
  std::filesystem::path file;  // a file or an index; empty if there are `shards`
  // A complete set without an index, in byte order of the names.
  std::vector<std::filesystem::path> shards;
};

// The first of these that the folder holds, in this order: an index of .safetensors files, such a
// file, an index of a variant ("model.safetensors.index.fp16.json"), shards without an index; then
// the same of .bin files, of which pytorch_model.bin is preferred; then a file .pth, .pt or .ckpt.
// Names may be in letters of either case. Those that begin with a dot, and what is neither a
// regular file nor a link that leads nowhere, do not count. Errors: index_ambiguous (several, which
// it names, or none; shards of one number, or of one outside 1..N), shard_missing (an incomplete
// set), limit_exceeded (more than kMaxShards), unsupported_layout (a distributed checkpoint), and
// those of reading the folder: file_not_found, permission_denied, io_error.
[[nodiscard]] Result<FolderModel> find_model(const std::filesystem::path& directory);

// The same among the names of a folder that is not local, without those in folders of it. `label`
// stands for the folder in messages.
[[nodiscard]] Result<FolderModel> find_model(std::string_view label,
                                             const std::vector<std::string>& names);

}  // namespace flatbed
