// AtomicFolder: writes a folder of files so that its name always shows either the old folder or the
// complete new one. Files of one set must come from one run, and no system call replaces several
// files at once; so a folder is written whole, beside its name, and then renamed.
//
//   create   a folder with a temporary name beside the target (leftover.hpp), locked. To replace a
//            folder, the file system must be able to swap two, which is tried out with an empty one
//   fill     the caller makes AtomicFiles in path(), with in_new_folder
//   commit   fsync the folder, then rename it: a plain rename() takes the place of nothing or of an
//            empty folder, and fails on everything else; RENAME_EXCHANGE swaps it with an old one.
//            Then fsync the parent, and remove the old folder
// A killed process leaves the old folder or the new one whole, and perhaps a temporary name, which
// the next AtomicFile or AtomicFolder in the parent removes.
//
// Only a folder that holds nothing but the files of a set (set_files.hpp) is replaced or removed.
//
// Owns the new folder: the destructor removes it with its files unless commit() gave it the
// target's name. Move-only; not thread-safe.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "flatbed/result.hpp"
#include "io/atomic_file.hpp"
#include "io/descriptor.hpp"

namespace flatbed {

struct AtomicFolderOptions {
  bool replace = false;      // false: a folder that is not empty is file_exists
  bool sync = true;          // false: no fsync, as for an AtomicFile
  std::uint64_t nbytes = 0;  // of all files; the file system must have them free
};

struct FolderReport {
  CommitReport commit;
  // Where the replaced folder is now, if it was not removed: files were added to it meanwhile, or
  // the new folder may not survive a power failure. Usually empty.
  std::filesystem::path old;
};

class AtomicFolder {
 public:
  // Errors: file_exists (a file, a link, a folder that may not be replaced), file_not_found (no
  // parent), permission_denied, no_space, unsupported_filesystem (it cannot swap folders, or
  // is mounted there), invalid_argument (no name), io_error.
  [[nodiscard]] static Result<AtomicFolder> create(const std::filesystem::path& target,
                                                   const AtomicFolderOptions& options);

  AtomicFolder(AtomicFolder&& other) noexcept = default;
  AtomicFolder& operator=(AtomicFolder&&) = delete;

  // Where the files of the new folder go until commit().
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

  // The path that its files have after commit(), for errors.
  [[nodiscard]] const std::filesystem::path& target() const noexcept { return target_; }

  // Those that the files of the folder that it replaces share. nullopt: it replaces none.
  [[nodiscard]] std::optional<FilePermissions> old_permissions() const noexcept;

  // Call once, after every file was committed. An Error means that the target is unchanged.
  [[nodiscard]] Result<FolderReport> commit();

 private:
  // A locked folder that is removed at the end with the files of a set in it.
  struct Temporary {
    Temporary() = default;
    Temporary(Temporary&& other) noexcept
        : parent(other.parent),
          name(std::exchange(other.name, {})),
          folder(std::move(other.folder)) {}
    Temporary& operator=(Temporary&&) = delete;
    ~Temporary();

    int parent = -1;   // borrowed
    std::string name;  // empty: there is none
    Descriptor folder;
  };

  AtomicFolder(std::filesystem::path target, const AtomicFolderOptions& options);

  Result<void> look_at_old();
  Result<void> check_room() const;
  Result<void> make_temporary(Temporary& made) const;
  [[nodiscard]] int try_to_make(Temporary& made) const;
  void set_permissions() noexcept;
  Result<void> try_to_swap();
  Result<void> sync_folder(CommitReport& report) const;
  Result<void> give_name();
  Result<void> swap_with_old();
  [[nodiscard]] Error swap_error(int failed) const;
  void remove_old(FolderReport& report);
  [[nodiscard]] bool is_at(const std::string& name, int folder) const;

  std::filesystem::path target_;
  AtomicFolderOptions options_;
  std::string name_;       // of the target within parent_
  bool replaces_ = false;  // old_ is not empty
  Descriptor old_;         // the folder that has the target's name, if any
  Descriptor parent_;
  std::filesystem::path path_;
  Temporary temporary_;  // the last member: it is removed while it is still locked
};

}  // namespace flatbed
