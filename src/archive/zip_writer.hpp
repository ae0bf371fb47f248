// ZipLayout: a zip of stored entries, planned before any byte is written: where each entry's data
// goes, and the bytes of the headers. The caller writes them, in any order.
//
//   local    50 4b 03 04, u16 needed, u16 flags, u16 method 0, u16 time, u16 date, u32 crc,
//            u32 nbytes twice, u16 name nbytes, u16 extra nbytes, name, extra; then the data
//   extra    from 4 GiB on (01 00, u16 16, u64 nbytes twice); then ("FB", u16 n, n times "Z"),
//            such that the data begins at a multiple of 64, that of large entries of 4096
//   at the end  the central directory, the zip64 end record, its locator, the end record
//
// torch and Python's zipfile read such files, and torch maps them. Owns the names. Const members
// are thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace flatbed::pth {

struct NewZipEntry {
  std::string name;  // UTF-8, at most kMaxZipName bytes
  std::uint64_t nbytes = 0;
};

inline constexpr std::size_t kMaxZipName = 1024;
inline constexpr std::uint64_t kZipAlignment = 64;
// Entries of at least this size begin at whole pages, which costs less than 4 KiB each. So they can
// be mapped, or read with O_DIRECT, without their neighbours.
inline constexpr std::uint64_t kPageAlignedFrom = 1 << 20;
inline constexpr std::uint64_t kZipPage = 4096;
// Offset of the CRC in a local header.
inline constexpr std::uint64_t kLocalCrcOffset = 14;

class ZipLayout {
 public:
  // The entries follow each other in the given order.
  explicit ZipLayout(std::vector<NewZipEntry> entries);

  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
  [[nodiscard]] std::uint64_t header_offset(std::size_t entry) const { return offsets_[entry]; }
  [[nodiscard]] std::uint64_t data_offset(std::size_t entry) const;
  [[nodiscard]] std::uint64_t data_nbytes(std::size_t entry) const {
    return entries_[entry].nbytes;
  }
  // Sizes of everything before the central directory and of the whole file.
  [[nodiscard]] std::uint64_t entries_nbytes() const noexcept { return offsets_.back(); }
  [[nodiscard]] std::uint64_t file_nbytes() const;

  // The local header of an entry, up to its data.
  [[nodiscard]] std::string local_header(std::size_t entry, std::uint32_t crc) const;
  // What follows the entries; `crcs` holds one CRC for each.
  [[nodiscard]] std::string directory(std::span<const std::uint32_t> crcs) const;

 private:
  [[nodiscard]] std::uint64_t central_nbytes(std::size_t entry) const;

  std::vector<NewZipEntry> entries_;
  std::vector<std::uint64_t> offsets_;  // of the local headers, then of the directory
};

}  // namespace flatbed::pth
