// The temporary names that AtomicFile gives to files and AtomicFolder to folders, and the removal
// of those that a killed process left.
//
//   .<name>.<32 hex digits>.flatbed.tmp
//
// The writer holds a flock() on such a file or folder; the kernel releases it when the process
// ends, for whatever reason. So a file of this name with a free lock is a leftover. So is a folder,
// unless it holds something besides the files of a set (set_files.hpp). Functions are thread-safe.
#pragma once

#include <string>
#include <string_view>

namespace flatbed {

// A new name for a temporary beside the file or folder `name`.
[[nodiscard]] std::string temporary_name(std::string_view name);

// Whether temporary_name() could have made `name`.
[[nodiscard]] bool is_temporary_name(std::string_view name) noexcept;

// Locks the file or folder without waiting. False: somebody else has the lock. True also where the
// file system has no locks: others then cannot take it for a leftover either.
[[nodiscard]] bool lock_temporary(int descriptor) noexcept;

// Removes the leftovers in the open directory. What cannot be read, locked or removed stays.
void remove_leftovers(int directory) noexcept;

}  // namespace flatbed
