// File: a regular file opened for positional reading. Owns the descriptor; move-only. read_at() is
// thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "flatbed/result.hpp"

namespace flatbed {

struct FileOptions {
  bool follow_links = true;  // false: a symbolic link is shard_link_refused
};

class File {
 public:
  // Errors: file_not_found, permission_denied, not_a_regular_file (directories, FIFOs, devices:
  // never blocks), io_error.
  [[nodiscard]] static Result<File> open(const std::filesystem::path& path,
                                         const FileOptions& options = {});

  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }  // when opened
  [[nodiscard]] std::int64_t modified_ns() const noexcept {
    return modified_ns_;
  }                                                                      // mtime when opened, in ns
  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }  // borrowed

  // Fills `out` from `offset`. Retries EINTR and short reads. Errors: io_error; file_changed when
  // the file ends early.
  [[nodiscard]] Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const;

  // Fills `parts`, one behind the other, from `offset`. As read_at(), with as few system calls as
  // possible; memory that cannot be written is destination_invalid here and there.
  [[nodiscard]] Result<void> read_at(std::uint64_t offset,
                                     std::span<const std::span<std::byte>> parts) const;

  // Whether the file still has the size and the time of modification that it was opened with. For
  // the end of long reads. Errors: file_changed, io_error.
  [[nodiscard]] Result<void> check_unchanged() const;

 private:
  File(std::filesystem::path path, int descriptor, std::uint64_t size, std::int64_t modified_ns)
      : path_(std::move(path)), descriptor_(descriptor), size_(size), modified_ns_(modified_ns) {}

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  std::int64_t modified_ns_ = 0;
};

}  // namespace flatbed
