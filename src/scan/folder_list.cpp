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

struct Listing {
  std::vector<FolderEntry> entries = {};
  std::vector<fs::path> folders = {};  // to be read next
  std::size_t left = 0;                // entries until the limit
  bool full = false;
};

// Appends the entries of one folder.
std::error_code list_one(const fs::path& folder, bool recursive, Listing& listing) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (listing.left == 0) {
      listing.full = true;
      return {};
    }
    --listing.left;
    std::string what = kind_of(*entry);
    if (recursive && what == "a folder") {
      listing.folders.push_back(entry->path());
    } else {
      listing.entries.push_back({entry->path(), std::move(what)});
    }
  }
  return error;
}

}  // namespace

Result<std::vector<FolderEntry>> list_folder(const fs::path& folder, bool recursive,
                                             std::size_t limit) {
  Listing listing{.folders = {folder}, .left = limit};
  for (bool first = true; !listing.folders.empty() && !listing.full; first = false) {
    const fs::path next = std::move(listing.folders.back());
    listing.folders.pop_back();
    const std::error_code error = list_one(next, recursive, listing);
    if (!error) continue;
    if (first)
      return make_error(ErrorCode::io_error, quoted(folder.native()), ": ", error.message());
    listing.entries.push_back({next, str_cat("a folder that cannot be read: ", error.message())});
  }
  if (listing.full)
    listing.entries.push_back(
        {folder, str_cat("a folder with more than ", counted(limit, "entry", "entries"))});
  std::ranges::sort(listing.entries, {}, &FolderEntry::path);
  return std::move(listing.entries);
}

}  // namespace flatbed
