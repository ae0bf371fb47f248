// File: a regular file opened for positional reading. Owns its descriptor, or shares those of a set
// through a DescriptorPool, which opens them when they are needed and bounds how many are open.
// Move-only; const members are thread-safe.
//
// A file that a pool opens again must be the one that was opened first: device, inode, size, and
// the times of modification and of change are the same, else reading it is file_changed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "io/descriptor.hpp"
#include "io/lru_pool.hpp"

namespace flatbed {

using DescriptorPool = LruPool<Descriptor>;

// For the files of one set: at most 128 descriptors, and at most a quarter of what the process may
// have.
[[nodiscard]] std::shared_ptr<DescriptorPool> make_descriptor_pool();

struct FileOptions {
  bool follow_links = true;                        // false: a symbolic link is shard_link_refused
  std::shared_ptr<DescriptorPool> pool = nullptr;  // null: the file keeps its descriptor
  // Where links are not followed: the folder with which the path begins, itself followed. Those
  // after it must be no links either.
  std::optional<std::filesystem::path> below = std::nullopt;
};

class File final : public ByteSource {
 public:
  // Errors: file_not_found, permission_denied, not_a_regular_file (directories, FIFOs, devices,
  // loops of links; never blocks), shard_link_refused, io_error.
  [[nodiscard]] static Result<File> open(const std::filesystem::path& path,
                                         const FileOptions& options = {});
  // A file that is open, by a descriptor of its own; `descriptor` stays the caller's. `label`
  // stands for a path. Errors: not_a_regular_file, resource_exhausted, io_error.
  [[nodiscard]] static Result<File> of_descriptor(int descriptor, std::string label);

  File(File&& other) noexcept = default;
  File& operator=(File&& other) noexcept = default;
  ~File() override;

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] std::string_view label() const noexcept override { return path_.native(); }
  [[nodiscard]] std::uint64_t size() const noexcept override { return opened_.size; }
  // When opened: mtime, in ns.
  [[nodiscard]] std::int64_t modified_ns() const noexcept { return opened_.modified_ns; }

  // Fills `out` from `offset`. Retries EINTR and short reads. Errors: io_error; file_changed when
  // the file ends early.
  [[nodiscard]] Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override;

  // Fills `parts`, one after the other, from `offset`. As read_at(), with as few system calls as
  // possible; memory that cannot be written is destination_invalid here and there.
  [[nodiscard]] Result<void> read_parts(std::uint64_t offset,
                                        std::span<const std::span<std::byte>> parts) const override;

  // Whether the file still has the size and the time of modification that it was opened with. For
  // the end of long reads. Errors: file_changed, io_error.
  [[nodiscard]] Result<void> check_unchanged() const override;

  // Errors: those of opening the file again, file_changed.
  [[nodiscard]] Result<DescriptorLease> descriptor() const override;

 private:
  // What must be the same when the file is opened again.
  struct Identity {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::uint64_t size = 0;
    std::int64_t modified_ns = 0;
    std::int64_t changed_ns = 0;
    bool operator==(const Identity&) const = default;
  };

  explicit File(std::filesystem::path path, FileOptions options = {})
      : path_(std::move(path)), options_(std::move(options)) {}

  [[nodiscard]] Result<Identity> identify(int descriptor) const;
  [[nodiscard]] Result<Descriptor> open_again() const;

  std::filesystem::path path_;
  Identity opened_;
  Descriptor descriptor_;  // none where the pool has it
  FileOptions options_;
  std::uint32_t pool_key_ = 0;
};

}  // namespace flatbed
