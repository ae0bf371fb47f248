// list_folder(): the files of a folder for a scan, and the entries that are not files. All system
// calls are std::filesystem's.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "flatbed/result.hpp"

namespace flatbed {

inline constexpr std::size_t kMaxFolderEntries = 100'000;

struct FolderEntry {
  std::filesystem::path path;
  std::string what = {};  // why it is no file to scan: "a folder"; empty: a regular file
};

// The entries of `folder`; with `recursive` also those of the folders in it, in place of the
// folders themselves. Links to files are files; links to folders are not followed. In the order of
// their paths. A folder that cannot be read, or more entries than `limit`, folders included, is an
// entry that says so. Errors: io_error (the folder itself cannot be read).
[[nodiscard]] Result<std::vector<FolderEntry>> list_folder(const std::filesystem::path& folder,
                                                           bool recursive,
                                                           std::size_t limit = kMaxFolderEntries);

}  // namespace flatbed
