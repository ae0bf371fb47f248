// write_file(): how every writer begins and ends. Creates the file without a name, lets the
// writer fill it, and commits it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>

#include "flatbed/result.hpp"
#include "flatbed/save.hpp"
#include "io/atomic_file.hpp"

namespace flatbed {

// Where a new file goes, and who may access it; see AtomicFileOptions.
struct NewFile {
  std::filesystem::path path;
  std::optional<FilePermissions> permissions;
  bool in_new_folder = false;
  std::filesystem::path shown = {};
};

// A file of report.nbytes; sets the report's durability. A dry run only finds out whether such a
// file could be created. Where `write` or anything else fails, the target is as it was. Errors:
// those of AtomicFile and of `write`.
[[nodiscard]] Result<void> write_file(const NewFile& target, const SaveOptions& options,
                                      SaveReport& report,
                                      const std::function<Result<void>(AtomicFile&)>& write);

// The first and the last step of it, for writers that commit a file later.
[[nodiscard]] Result<AtomicFile> create_file(const NewFile& target, const SaveOptions& options,
                                             std::uint64_t nbytes);
[[nodiscard]] Result<void> commit_file(AtomicFile& file, SaveReport& report);

}  // namespace flatbed
