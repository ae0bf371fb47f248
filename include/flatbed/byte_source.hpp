// ByteSource: where the bytes of one file come from. Implement it for what is not a local file (an
// object store, an archive of an engine's own), and hand it to Checkpoint::open() or scan().
//
//   class Blob final : public flatbed::ByteSource {
//     std::string_view label() const noexcept override { return "s3://models/a.safetensors"; }
//     std::uint64_t size() const noexcept override { return nbytes_; }
//     Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override;
//   };
//
// Const members are called from any thread, several at once, and throw nothing. The checkpoint
// shares the ownership of its source and keeps it until the last copy of it is gone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "flatbed/export.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

// A file descriptor that stays open at least as long as any copy of this. Copyable; borrows or
// shares what keeps the descriptor open.
class DescriptorLease {
 public:
  DescriptorLease() = default;  // none
  // `keeps_open` closes the descriptor in its destructor; null: it outlives every lease.
  explicit DescriptorLease(int descriptor, std::shared_ptr<const void> keeps_open = nullptr)
      : descriptor_(descriptor), keeps_open_(std::move(keeps_open)) {}

  explicit operator bool() const noexcept { return descriptor_ >= 0; }
  [[nodiscard]] int get() const noexcept { return descriptor_; }

 private:
  int descriptor_ = -1;
  std::shared_ptr<const void> keeps_open_;
};

class FLATBED_EXPORT ByteSource {
 public:
  ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  virtual ~ByteSource();

  // Names the source in messages and in FileInfo::path; a path for files. Valid while the source
  // lives.
  [[nodiscard]] virtual std::string_view label() const noexcept = 0;

  // In bytes. It does not change while the source lives.
  [[nodiscard]] virtual std::uint64_t size() const noexcept = 0;

  // Fills all of `out` from `offset`; flatbed asks for nothing that reaches beyond size(). Errors:
  // any; io_error and file_changed are the customary ones. The contents of `out` are then
  // unspecified.
  [[nodiscard]] virtual Result<void> read_at(std::uint64_t offset,
                                             std::span<std::byte> out) const = 0;

  // Fills `parts`, one after the other, from `offset`. The default calls read_at() for each.
  [[nodiscard]] virtual Result<void> read_parts(std::uint64_t offset,
                                                std::span<const std::span<std::byte>> parts) const;

  // Whether the bytes are still those that the source began with; called after long reads. The
  // default says so. Errors: file_changed, and whatever prevents an answer.
  [[nodiscard]] virtual Result<void> check_unchanged() const;

  // All size() bytes, where they lie in memory for as long as the source lives; views are then
  // served in place. The default is empty: they do not.
  [[nodiscard]] virtual std::span<const std::byte> memory() const noexcept;

  // A descriptor of a regular file with exactly these bytes, for mappings and for O_DIRECT. The
  // default is none. Errors: those of opening the file again.
  [[nodiscard]] virtual Result<DescriptorLease> descriptor() const;

  // How many bytes load() reads at once where it has the choice: what is far away prefers
  // megabytes. The default is 256 KiB, from which load() rounds up to what its digests like.
  [[nodiscard]] virtual std::size_t preferred_read_nbytes() const noexcept;

 protected:
  ByteSource(ByteSource&&) noexcept = default;
  ByteSource& operator=(ByteSource&&) noexcept = default;
};

}  // namespace flatbed
