#include "scan/folder_list.hpp"

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/str_cat.hpp"

namespace flatbed {

namespace {

namespace fs = std::filesystem;

std::string kind_of(const fs::directory_entry& entry) {
  std::error_code error;
  if (entry.is_regular_file(error)) return {};
  const bool link = entry.is_symlink(error);
  if (entry.is_directory(error)) return link ? "a link to a folder" : "a folder";
  return link && !entry.exists(error) ? "a link that leads nowhere" : "not a regular file";
}

// Appends the entries of one folder; folders to be read next go to `folders`.
std::error_code list_one(const fs::path& folder, std::vector<FolderEntry>& entries,
                         std::vector<fs::path>* folders) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entries.size() == kMaxFolderEntries) {
      entries.push_back({folder, str_cat("a folder with more than ", kMaxFolderEntries, " files")});
      return {};
    }
    std::string what = kind_of(*entry);
    if (folders != nullptr && what == "a folder") {
      folders->push_back(entry->path());
    } else {
      entries.push_back({entry->path(), std::move(what)});
    }
  }
  return error;
}

}  // namespace

Result<std::vector<FolderEntry>> list_folder(const fs::path& folder, bool recursive) {
  std::vector<FolderEntry> entries;
  std::vector<fs::path> folders = {folder};
  for (bool first = true; !folders.empty() && entries.size() <= kMaxFolderEntries; first = false) {
    const fs::path next = std::move(folders.back());
    folders.pop_back();
    const std::error_code error = list_one(next, entries, recursive ? &folders : nullptr);
    if (!error) continue;
    if (first)
      return make_error(ErrorCode::io_error, quoted(folder.native()), ": ", error.message());
    entries.push_back({next, str_cat("a folder that cannot be read: ", error.message())});
  }
  std::ranges::sort(entries, {}, &FolderEntry::path);
  return entries;
}

}  // namespace flatbed
