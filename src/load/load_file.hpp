// LoadFile: one file of a load, read through the page cache or with O_DIRECT. The second descriptor
// that O_DIRECT needs is in a pool, which bounds the number of descriptors of the load. Borrows the
// source. Thread-safe.
//
// If the system refuses O_DIRECT, it is given up for good without an error, and the same bytes are
// read through the page cache.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "flatbed/byte_source.hpp"
#include "io/direct_file.hpp"
#include "io/lru_pool.hpp"
#include "io/page_cache.hpp"
#include "load/load_hooks.hpp"

namespace flatbed {

using DirectPool = LruPool<DirectFile>;
inline constexpr std::size_t kMaxDirectFiles = 32;  // of one load

class LoadFile {
 public:
  struct Options {
    const LoadHooks* hooks = nullptr;
    std::uint32_t index = 0;  // for the hooks
    bool direct = false;
    std::shared_ptr<DirectPool> pool = nullptr;  // null: one of its own
  };
  LoadFile(const ByteSource& file, const Options& options);

  [[nodiscard]] const ByteSource& file() const noexcept { return *file_; }
  // Hooks that replace reading receive requests of the size of an O_DIRECT read.
  [[nodiscard]] bool direct() const noexcept { return direct_ && !refused_; }
  [[nodiscard]] std::uint64_t bytes_read() const noexcept { return bytes_read_; }

  // Fills `out` from `offset` through the page cache.
  [[nodiscard]] Result<void> read(std::uint64_t offset, std::span<std::byte> out);
  // The same into several places, for consecutive bytes of the file.
  [[nodiscard]] Result<void> read(std::uint64_t offset,
                                  std::span<const std::span<std::byte>> parts);
  // The same, telling how much has arrived; see ByteSource::read_with_progress().
  [[nodiscard]] Result<void> read(std::uint64_t offset, std::span<const std::span<std::byte>> parts,
                                  const ReadProgress& progress);
  // Has the kernel begin to read these ranges into the page cache; see page_cache.hpp.
  void read_ahead(std::span<const FileRange> ranges) const;
  // Reads with O_DIRECT. `out` must have the same offset modulo 4096 in memory as in the file, and
  // whole blocks of that size around it may be overwritten.
  [[nodiscard]] Result<void> read_around(std::uint64_t offset, std::span<std::byte> out);
  // The same, but nothing outside `out` is written: its ends are read through the page cache.
  [[nodiscard]] Result<void> read_within(std::uint64_t offset, std::span<std::byte> out);

  // For reads by a queue: what to read from, and how much was read.
  // Errors: unsupported_filesystem (it cannot be opened so, or needs more alignment).
  [[nodiscard]] Result<std::shared_ptr<const DirectFile>> past_cache();
  // What was read of the file without this object.
  void count(std::uint64_t nbytes) noexcept { bytes_read_ += nbytes; }

 private:
  Result<std::size_t> read_blocks(std::uint64_t offset, std::span<std::byte> out);

  const ByteSource* file_;
  const LoadHooks* hooks_;
  std::uint32_t index_;
  bool direct_;
  std::shared_ptr<DirectPool> pool_;
  std::uint32_t pool_key_ = 0;
  std::atomic<bool> refused_ = false;
  std::atomic<std::uint64_t> bytes_read_ = 0;
};

}  // namespace flatbed
