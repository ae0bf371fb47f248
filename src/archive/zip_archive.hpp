// ZipArchive: the checked directory of a zip file. Reading an entry's bytes is left to its users.
// Zip states most things twice, and readers that believe different copies see different files. So
// an archive is accepted only if there is one way to read it: one end record, entries that do not
// overlap, exact names that differ in more than case, and a local header before each entry that
// agrees with the central directory. Sizes, offsets and methods come from the central directory.
// Local headers are read through a forward window: neighbours share a read, and the data between
// distant ones is not touched.
// Owns its copy of the central directory, into which the names of the entries point. Move-only;
// const members are thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "archive/zip_entry.hpp"
#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "io/large_allocator.hpp"
#include "io/name_index.hpp"

namespace flatbed::pth {

// The central directory of a million entries takes about 100 MB.
inline constexpr std::uint64_t kMaxDirectoryBytes = 1ULL << 30;

class ZipArchive {
 public:
  // Errors: zip_*, limit_exceeded, and those of File::read_at.
  [[nodiscard]] static Result<ZipArchive> open(const ByteSource& file);

  [[nodiscard]] std::span<const ZipEntry> entries() const noexcept {
    return entries_;
  }                                                                 // as in the directory
  [[nodiscard]] const ZipEntry* find(std::string_view name) const;  // exact match, or null
  [[nodiscard]] std::uint64_t trailing_nbytes() const noexcept {
    return trailing_nbytes_;
  }  // after the end record

  // Moves out the entries, which may outlive the archive. The archive is empty afterwards.
  [[nodiscard]] ZipRecords release() && { return {std::move(directory_), std::move(entries_)}; }

 private:
  ZipArchive() = default;
  [[nodiscard]] Result<void> parse_directory(std::uint64_t entry_count);
  [[nodiscard]] Result<void> add_name(std::string_view name, std::string& lower);

  ByteBuffer directory_;
  std::uint64_t trailing_nbytes_ = 0;
  ZipEntries entries_;
  NameIndex index_;  // keyed by names in lower case
};

// Returns the whole contents of an entry of at most `max_nbytes`, inflated. Of a source that may
// help (ByteSource::max_rereads()), an entry that does not inflate or match its CRC is read again.
// Errors: limit_exceeded, zip_deflate_malformed, and those of File::read_at; all name the entry.
[[nodiscard]] Result<ByteBuffer> read_entry(const ByteSource& file, const ZipEntry& entry,
                                            std::uint64_t max_nbytes);

}  // namespace flatbed::pth
