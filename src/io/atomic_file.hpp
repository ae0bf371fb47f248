// AtomicFile: writes a file so that its name always shows either the old contents or the complete
// new ones.
//
// The sequence (rename replaces a name in one step; only fsync makes bytes and names durable):
//   create   .<name>.<random>.tmp beside the target, mode 0666 & ~umask, or the existing target's
//            mode and, where permitted, owner
//   reserve  the whole size with fallocate, so that a full disk is an error before the first byte
//   write_at in any order, from several threads
//   commit   fsync the file, rename it over the target, fsync the directory
// A failed fsync is never retried on the same file: the kernel may have dropped the pages and would
// report success.
//
// Owns the temporary file: the destructor removes it unless commit() renamed it. Move-only;
// write_at() and start_writeback() are thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "flatbed/result.hpp"

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
};

class AtomicFile {
 public:
  // Follows a symbolic link at `target`: replaces the file that it points to and keeps the link.
  // Errors: file_not_found (no directory), permission_denied, not_a_regular_file, file_exists,
  // no_space (including the process's own file size limit), invalid_argument (no file name),
  // io_error.
  [[nodiscard]] static Result<AtomicFile> create(const std::filesystem::path& target,
                                                 std::uint64_t nbytes,
                                                 const AtomicFileOptions& options = {});

  AtomicFile(AtomicFile&& other) noexcept;
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
  AtomicFile(std::filesystem::path target, const AtomicFileOptions& options);

  Result<void> open_directory();
  Result<void> create_temporary();
  Result<void> reserve(std::uint64_t nbytes);
  Result<void> sync_and_close(CommitReport& report);
  Result<void> rename_over_target();
  [[nodiscard]] int rename_errno();
  [[nodiscard]] bool target_is_ours() const;

  std::filesystem::path target_;  // after links are resolved
  AtomicFileOptions options_;
  std::string name_;            // of the target within directory_
  std::string temporary_name_;  // empty if there is none to remove
  std::uint64_t inode_ = 0;     // of the temporary file
  int directory_ = -1;
  int descriptor_ = -1;
};

}  // namespace flatbed
