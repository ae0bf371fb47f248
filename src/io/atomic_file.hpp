// AtomicFile: writes a file so that its name always shows either the old contents or the complete
// new ones, and so that a process that is killed leaves no more than a temporary name, which the
// next AtomicFile in the directory removes.
//
// The sequence (names change in one step; only fsync makes bytes and names durable):
//   create   a file without a name in the target's directory (O_TMPFILE), which the kernel frees
//            if the process dies; its permissions are final before it has contents
//   reserve  the whole size with fallocate, so that a full disk is an error before the first byte
//   write_at in any order, from several threads
//   commit   fsync the file, link it to the target's name, fsync the directory. No call links over
//            a name that exists, so to replace a file it is linked to a temporary name first, which
//            is then renamed over the target.
// Where the file system has no files without names, it has the temporary name from the start. A
// file with a temporary name is locked, and create() removes those in the same directory whose lock
// is free (see leftover.hpp).
// A failed fsync is never retried on the same file: the kernel may have dropped the pages and would
// report success.
//
// Owns the new file: the destructor removes it unless commit() gave it the target's name.
// Move-only; write_at() and start_writeback() are thread-safe.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "flatbed/result.hpp"
#include "io/descriptor.hpp"
#include "io/file_permissions.hpp"

namespace flatbed {

// What is committed is complete and visible. It is durable too where there is no note.
struct CommitReport {
  std::string note;  // why durability is unknown; empty: it is known
  [[nodiscard]] bool durable() const noexcept { return note.empty(); }
};

struct AtomicFileOptions {
  bool replace = true;  // false: an existing target is file_exists (checked at create() and, by the
                        // kernel, at commit())
  bool sync = true;     // false: no fsync; what commit() reports is then not durable
  // The group is set where that is permitted. Where it is not, the file's group gets no more rights
  // than others. nullopt: permissions and owner of the file that is replaced, else 0666 & ~umask.
  std::optional<FilePermissions> permissions = {};
  // Whether the directory is new and this process's alone (an AtomicFolder): nobody left anything
  // in it, and its names are synced with it, once.
  bool in_new_folder = false;
  // What errors call the file, where the target's path means nothing to a user. Empty: the target.
  std::filesystem::path shown = {};
};

class AtomicFile {
 public:
  // A symbolic link at `target` is an existing target: with `replace` the link itself is replaced,
  // and what it points to stays. A link to anything but a regular file is refused.
  // Errors: file_not_found (no directory), permission_denied, not_a_regular_file, file_exists,
  // no_space (including the process's own file size limit), invalid_argument (no file name),
  // io_error.
  [[nodiscard]] static Result<AtomicFile> create(const std::filesystem::path& target,
                                                 std::uint64_t nbytes,
                                                 const AtomicFileOptions& options = {});

  AtomicFile(AtomicFile&& other) noexcept = default;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  [[nodiscard]] Result<void> write_at(std::uint64_t offset, std::span<const std::byte> bytes);

  // Asks the kernel to start writing [offset, offset + nbytes) to the device, so that commit() has
  // less to wait for. It is a hint; failures are ignored.
  void start_writeback(std::uint64_t offset, std::uint64_t nbytes) noexcept;

  // Call once. An Error means that the file was not committed: the target is unchanged, and this
  // object removes the temporary file. unsupported_filesystem: the file system cannot replace a
  // name in one step.
  [[nodiscard]] Result<CommitReport> commit();

 private:
  // A name in the directory that is removed at the end unless it was renamed.
  class TemporaryName {
   public:
    TemporaryName() = default;
    TemporaryName(int directory, std::string name)
        : directory_(directory), name_(std::move(name)) {}
    TemporaryName(TemporaryName&& other) noexcept
        : directory_(other.directory_), name_(std::exchange(other.name_, {})) {}
    TemporaryName& operator=(TemporaryName&& other) noexcept;
    ~TemporaryName();
    [[nodiscard]] bool empty() const noexcept { return name_.empty(); }
    [[nodiscard]] const char* get() const noexcept { return name_.c_str(); }
    void forget() noexcept { name_.clear(); }

   private:
    int directory_ = -1;  // borrowed
    std::string name_;
  };

  AtomicFile(std::filesystem::path target, const AtomicFileOptions& options);

  Result<void> open_directory();
  Result<void> look_at_old();
  Result<void> create_file();
  [[nodiscard]] bool create_unnamed(mode_t mode);
  [[nodiscard]] int create_named(mode_t mode);
  Result<void> set_permissions();
  Result<void> reserve(std::uint64_t nbytes);
  Result<void> sync_file(CommitReport& report);
  Result<void> report_late_errors();
  Result<void> give_name();
  [[nodiscard]] int link_as(const char* name) const;
  [[nodiscard]] int name_errno();
  [[nodiscard]] int rename_errno();
  [[nodiscard]] bool target_is_ours() const;

  std::filesystem::path target_;
  AtomicFileOptions options_;
  std::string name_;                // of the target within directory_
  std::string place_;               // what errors call it
  std::optional<struct stat> old_;  // the regular file that is replaced
  std::uint64_t inode_ = 0;         // of the new file
  Descriptor directory_;
  Descriptor descriptor_;
  TemporaryName temporary_;  // the last member: it is removed while the file is still locked
};

}  // namespace flatbed
