// ByteSource: the source of one file's bytes. Implement it for files that are not local (an object
// store, an engine's own archive), and pass it to Checkpoint::open() or scan().
//
//   class Blob final : public flatbed::ByteSource {
//    public:
//     std::string_view label() const noexcept override { return "s3://models/a.safetensors"; }
//     std::uint64_t size() const noexcept override { return nbytes_; }
//     Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override;
//
//    private:
//     std::uint64_t nbytes_ = 0;
//   };
//
// Const members must not throw and may be called from several threads at once. The checkpoint
// shares the ownership of its source until its last copy is gone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "flatbed/export.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

// A file descriptor that stays open at least as long as any copy of this object. Copyable; borrows
// or shares the object that keeps the descriptor open.
class DescriptorLease {
 public:
  DescriptorLease() = default;  // none
  // `keeps_open` closes the descriptor in its destructor; null if the descriptor outlives every
  // lease.
  explicit DescriptorLease(int descriptor, std::shared_ptr<const void> keeps_open = nullptr)
      : descriptor_(descriptor), keeps_open_(std::move(keeps_open)) {}

  explicit operator bool() const noexcept { return descriptor_ >= 0; }
  [[nodiscard]] int get() const noexcept { return descriptor_; }

 private:
  int descriptor_ = -1;
  std::shared_ptr<const void> keeps_open_;
};

// Is told how many bytes of a read, from its front, have arrived. These may be looked at and do not
// change until the read returns; the others may not be looked at. Calls never overlap. They come on
// any thread, while the caller waits in the read, which they hold up: they must not wait, throw, or
// read from the source. An error ends the read early.
using ReadProgress = std::function<Result<void>(std::uint64_t nbytes)>;

class FLATBED_EXPORT ByteSource {
 public:
  ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  virtual ~ByteSource();

  // The source's name in messages and in FileInfo::path; for files, the path. Valid while the
  // source exists.
  [[nodiscard]] virtual std::string_view label() const noexcept = 0;

  // The size in bytes. It must not change while the source exists.
  [[nodiscard]] virtual std::uint64_t size() const noexcept = 0;

  // Fills all of `out` from `offset`. flatbed never reads past size(). Errors: any; usually
  // io_error and file_changed. After an error the contents of `out` are unspecified.
  [[nodiscard]] virtual Result<void> read_at(std::uint64_t offset,
                                             std::span<std::byte> out) const = 0;

  // Fills `parts`, one after the other, from `offset`. The default calls read_at() for each.
  [[nodiscard]] virtual Result<void> read_parts(std::uint64_t offset,
                                                std::span<const std::span<std::byte>> parts) const;

  // As read_parts(), for callers that work on the first bytes while the others are on their way.
  // The source calls `progress` with numbers that increase, as often as it likes (about every
  // 256 KiB is a good measure), and at last with the number of all bytes. What was reported must be
  // right: of this range and this version, and kept if the source has to ask again for the rest.
  // The default calls read_parts(), and `progress` once. Errors: those of read_parts(), and that of
  // `progress`, which is passed on as it is.
  [[nodiscard]] virtual Result<void> read_with_progress(std::uint64_t offset,
                                                        std::span<const std::span<std::byte>> parts,
                                                        const ReadProgress& progress) const;

  // Whether the bytes are still the original ones. Called after long reads. The default says yes.
  // Errors: file_changed, and anything that prevents an answer.
  [[nodiscard]] virtual Result<void> check_unchanged() const;

  // All size() bytes in memory, valid while the source exists; views then point into it. The
  // default is empty: the bytes are not in memory.
  [[nodiscard]] virtual std::span<const std::byte> memory() const noexcept;

  // A descriptor of a regular file with exactly these bytes, for mappings and for O_DIRECT. The
  // default is none. Errors: those of opening the file again.
  [[nodiscard]] virtual Result<DescriptorLease> descriptor() const;

  // The size in bytes of one read by load(), where it has the choice. Remote sources work better
  // with megabytes: from 1 MiB on, a source is taken to be far away, and more reads are under way
  // at once. The default is 256 KiB; load() rounds up to whole chunks.
  [[nodiscard]] virtual std::size_t preferred_read_nbytes() const noexcept;

  // How often bytes that do not match their digest are read once more with reread_at(), because
  // they may have been damaged on the way although the source has them right, as over a network.
  // The default is 0: what was read is what the source holds.
  [[nodiscard]] virtual unsigned max_rereads() const noexcept;
  // As read_at(), but from where the bytes come from, past every copy kept on the way. The default
  // calls read_at().
  [[nodiscard]] virtual Result<void> reread_at(std::uint64_t offset,
                                               std::span<std::byte> out) const;

 protected:
  ByteSource(ByteSource&&) noexcept = default;
  ByteSource& operator=(ByteSource&&) noexcept = default;
};

}  // namespace flatbed
