// The files of a set that flatbed writes (spec H1, H6): their names, and folders of them. A folder
// is removed only if nothing else is in it. Functions are thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "flatbed/result.hpp"
#include "io/file_permissions.hpp"

namespace flatbed {

inline constexpr std::string_view kSetFileName = "model.safetensors";  // the only file of a set
inline constexpr std::string_view kSetIndexName = "model.safetensors.index.json";

// "model-00001-of-00005.safetensors"; numbers begin with 1.
[[nodiscard]] std::string shard_file_name(std::uint32_t number, std::uint32_t count);

// Whether the name is one of the above. Their numbers have five digits and may be any.
[[nodiscard]] bool is_set_file_name(std::string_view name) noexcept;

struct SetFolder {
  bool empty = true;
  std::string other;  // an entry that is not a file of a set; empty if there is none
};

// What is in the open folder. Files with temporary names count as files of a set. Errors: those of
// the system.
[[nodiscard]] Result<SetFolder> look_into_folder(int folder, std::string_view place);

// The permissions that all files in the open folder share. nullopt: there are no files.
[[nodiscard]] std::optional<FilePermissions> common_permissions(int folder) noexcept;

// Removes the open folder, which has this name in `parent`, with the files of a set in it. Returns
// false, and removes nothing, if it holds anything else or cannot be read to the end.
bool remove_set_folder(int parent, const char* name, int folder) noexcept;

}  // namespace flatbed
