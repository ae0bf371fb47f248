// LeasedFile: reads a file where the page cache has it, without a copy. Owns a descriptor for the
// same file as its source and a mapping of it. Move-only, not thread-safe: each thread has one.
//
// A mapping alone would not do. Whoever truncates the file ends the process that reads it there
// (SIGBUS), and whoever writes to it changes bytes that have been hashed. So pages are read under a
// lease of the kernel's (fcntl(2), F_SETLEASE), for milliseconds each time:
//
//   pages()     F_SETLEASE, F_RDLCK   granted where nobody has the file open for writing
//               MADV_POPULATE_READ    the pages are in memory, and in the process's page table
//   bytes()                           who opens the file to write, or truncates it, waits
//   ~Pages()    F_SETLEASE, F_UNLCK   and goes on
//
// The pages stay in the page table, where nobody reads them, until they are 8 MiB: to take some
// out costs an interrupt of every processor that runs the process.
//
// Two things remain, as with every mapping: a page that the kernel drops meanwhile and that the
// disk then cannot read again; and a process that is stopped meanwhile for longer than the kernel
// has others wait (/proc/sys/fs/lease-break-time, 45 s), while somebody truncates the file.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "flatbed/byte_source.hpp"
#include "io/descriptor.hpp"
#include "io/faster_way.hpp"
#include "io/mapped_file.hpp"
#include "io/page_cache.hpp"

namespace flatbed {

class LeasedFile {
 public:
  // Returns nullopt if the file cannot be mapped, if the process locks what it maps (all of the
  // file would stay in memory, for each thread) or has a limit of its address space, or if the
  // file system is none of those whose files only this kernel changes: over a network, others do,
  // and wait for no lease. Then read `source`.
  [[nodiscard]] static std::optional<LeasedFile> open(const ByteSource& source);

  // Bytes of the file that nobody can change until this object is gone. Move-only; borrows the
  // LeasedFile, which must not be moved meanwhile.
  class Pages {
   public:
    Pages(Pages&& other) noexcept
        : file_(std::exchange(other.file_, nullptr)), times_(other.times_), range_(other.range_) {}
    Pages& operator=(Pages&& other) noexcept {
      std::swap(file_, other.file_);
      std::swap(times_, other.times_);
      std::swap(range_, other.range_);
      return *this;
    }
    ~Pages();

    // `range` within that of the pages; offsets in the file.
    [[nodiscard]] std::span<const std::byte> bytes(const FileRange& range) const noexcept {
      return file_->bytes(range);
    }

   private:
    friend class LeasedFile;
    using Time = std::chrono::steady_clock::time_point;
    struct Times {
      Time asked;   // for the lease
      Time mapped;  // all pages were
    };
    Pages(LeasedFile& file, const FileRange& range, Time asked)
        : file_(&file), times_{asked, asked}, range_(range) {}

    LeasedFile* file_;
    Times times_;
    FileRange range_;
  };

  // Only one may exist at a time. Returns nullopt if they are not to be had: the range ends after
  // the source, somebody has the file open for writing, this process neither owns it nor has
  // CAP_LEASE, it has shrunk, or the kernel does without leases or is older than Linux 5.14. Then
  // read the source. But for such a range, it is no use to ask again.
  [[nodiscard]] std::optional<Pages> pages(const FileRange& range);

  // Whether this is still worth it: false where more than half of the time goes into the page
  // table, as where the page cache has the file in pages of 4 KiB; then a read copies as fast.
  [[nodiscard]] bool pays() const noexcept;

 private:
  LeasedFile(Descriptor descriptor, MappedFile mapping)
      : descriptor_(std::move(descriptor)), mapping_(std::move(mapping)) {}

  [[nodiscard]] bool take_lease() noexcept;
  [[nodiscard]] std::span<const std::byte> bytes(const FileRange& range) const noexcept;
  [[nodiscard]] bool map(const FileRange& range) noexcept;
  void unmap() noexcept;

  Descriptor descriptor_;  // has the lease, and nothing else is done with it
  MappedFile mapping_;
  FileRange mapped_;                 // that was asked for since unmap()
  std::uint64_t mapped_nbytes_ = 0;  // of that, where ranges may lie between
  bool refused_ = false;
  FasterWay way_;                                          // of MapBy
  unsigned times_held_ = 0;                                // since a way was chosen
  std::chrono::steady_clock::duration mapping_time_ = {};  // of page tables and leases
  std::chrono::steady_clock::duration held_time_ = {};     // in all
};

}  // namespace flatbed
