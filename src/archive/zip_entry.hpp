// ZipEntry: one file of a zip archive, and the bytes of the two headers that describe it.
// clang-format off
//
//   local    50 4b 03 04, u16 needed, u16 flags, u16 method, u16 time, u16 date, u32 crc,
//            u32 stored nbytes, u32 nbytes, u16 name nbytes, u16 extra nbytes, name, extra;
//            then the data; then, with flag 8, a data descriptor
//   central  50 4b 01 02, u16 made by, u16 needed, u16 flags, u16 method, u16 time, u16 date,
//            u32 crc, u32 stored nbytes, u32 nbytes, u16 name nbytes, u16 extra nbytes,
//            u16 comment nbytes, u16 disk, u16, u32, u32 offset of the local header,
//            name, extra, comment
//   extra    any number of (u16 id, u16 nbytes, bytes). Id 1 is zip64: a u64 for each of nbytes,
//            stored nbytes and offset whose 32-bit field has all bits set.
//
// clang-format on
// torch sets flag 8 and leaves crc and sizes 0 in the local header.
// Plain data and pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "flatbed/result.hpp"
#include "io/large_allocator.hpp"

namespace flatbed::pth {

struct ZipEntry {
  std::string_view name;
  std::uint64_t header_offset = 0;  // of the local header
  std::uint64_t data_offset = 0;
  std::uint64_t stored_nbytes = 0;
  std::uint64_t nbytes = 0;  // inflated; equal to stored_nbytes unless deflated
  std::uint32_t crc = 0;     // of the inflated bytes, as the central directory says; not checked
  bool deflated = false;
};

using ZipEntries = LargeVector<ZipEntry>;

// The entries of an archive and the memory that their names point into. Move-only.
struct ZipRecords {
  ZipRecords() = default;
  ZipRecords(ByteBuffer bytes, ZipEntries list)
      : directory(std::move(bytes)), entries(std::move(list)) {}
  ZipRecords(ZipRecords&&) noexcept = default;
  ZipRecords& operator=(ZipRecords&&) noexcept = default;

  ByteBuffer directory;
  ZipEntries entries;  // in the directory's order

  // Whether any CRC is stated. torch writes 0 for every record after set_crc32_options(False).
  [[nodiscard]] bool state_crcs() const noexcept;
};

// "CRC-32 does not match: found 0x<found>, expected 0x<stated>"
[[nodiscard]] std::string crc_text(std::uint32_t found, std::uint32_t stated);

namespace zip {

inline constexpr std::uint32_t kLocalSignature = 0x04034B50;
inline constexpr std::uint32_t kCentralSignature = 0x02014B50;
inline constexpr std::size_t kLocalBytes = 30;
inline constexpr std::size_t kCentralBytes = 46;
// In a 32-bit field: see the zip64 extra field.
inline constexpr std::uint32_t kMark32 = 0xFFFFFFFF;
inline constexpr std::uint16_t kZip64Id = 0x0001;
inline constexpr std::uint16_t kUnicodePathId = 0x7075;

inline constexpr std::uint16_t kFlagDescriptor = 0x0008;  // crc and sizes follow the data
inline constexpr std::uint16_t kFlagUtf8 = 0x0800;
inline constexpr std::uint16_t kFlagsDeflateLevel = 0x0006;
inline constexpr std::uint16_t kStored = 0;
inline constexpr std::uint16_t kDeflated = 8;

struct CentralFields {
  std::uint16_t flags, method;
  std::uint32_t crc, stored_nbytes, nbytes;
  std::uint16_t name_nbytes, extra_nbytes, comment_nbytes, disk;
  std::uint32_t offset;
};

[[nodiscard]] inline CentralFields load_central(const std::byte* at) {
  return {load_le16(at + 8),  load_le16(at + 10), load_le32(at + 16), load_le32(at + 20),
          load_le32(at + 24), load_le16(at + 28), load_le16(at + 30), load_le16(at + 32),
          load_le16(at + 34), load_le32(at + 42)};
}

struct LocalFields {
  std::uint16_t flags, method;
  std::uint32_t crc, stored_nbytes, nbytes;
  std::uint16_t name_nbytes, extra_nbytes;
};

[[nodiscard]] inline LocalFields load_local(const std::byte* at) {
  return {load_le16(at + 6),  load_le16(at + 8),  load_le32(at + 14), load_le32(at + 18),
          load_le32(at + 22), load_le16(at + 26), load_le16(at + 28)};
}

// The contents of the extra field `id`, or nullopt if there is none. Errors:
// zip_directory_malformed (a list that does not fill its bytes, or a field that appears twice).
[[nodiscard]] Result<std::optional<std::span<const std::byte>>> find_extra(
    std::span<const std::byte> extra, std::uint16_t id);

}  // namespace zip

}  // namespace flatbed::pth
