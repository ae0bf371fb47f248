// The end of a zip file:
// clang-format off
//
//   central directory
//   zip64 end record    50 4b 06 06, u64 nbytes of the rest (44), u16 made by, u16 needed,
//                       u32 disk, u32 directory disk, u64 entries on this disk, u64 entries,
//                       u64 directory nbytes, u64 directory offset
//   zip64 locator       50 4b 06 07, u32 disk, u64 offset of the zip64 end record,
//                       u32 number of disks
//   end record          50 4b 05 06, u16 disk, u16 directory disk, u16 entries on this disk,
//                       u16 entries, u32 directory nbytes, u32 directory offset,
//                       u16 comment nbytes, comment
//
// clang-format on
// The two zip64 records are present if a field of the end record is too small, and always in
// torch's files.
#include "archive/zip_end.hpp"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "base/checked.hpp"
#include "base/str_cat.hpp"

namespace flatbed::pth {

namespace {

constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kEnd64Bytes = 56;
constexpr std::size_t kLocatorBytes = 20;
constexpr std::uint64_t kTailBytes = kEndBytes + 0xFFFF;  // an end record and the longest comment
constexpr std::string_view kEndSignature("PK\x05\x06", 4);
constexpr std::uint32_t kDirectorySignature = 0x02014B50;
constexpr std::uint32_t kEnd64Signature = 0x06064B50;
constexpr std::uint32_t kLocatorSignature = 0x07064B50;

// The last bytes of the file, and their offset.
struct Tail {
  std::vector<std::byte> bytes;
  std::uint64_t offset = 0;
};

struct EndFields {
  std::uint32_t disk, directory_disk, entries_here, entries, nbytes, offset, comment;
};

EndFields load_end(const std::byte* at) {
  return {load_le16(at + 4),  load_le16(at + 6),  load_le16(at + 8), load_le16(at + 10),
          load_le32(at + 12), load_le32(at + 16), load_le16(at + 20)};
}

Error malformed(std::uint64_t at, std::string_view what) {
  return make_error(ErrorCode::zip_directory_malformed, "the zip end record at byte ", at, ": ",
                    what);
}

Error cut_off(std::uint64_t at) {
  return make_error(ErrorCode::zip_end_missing,
                    "the file is cut off inside the zip end record at byte ", at);
}

// Whether a field of the end record equals the zip64 one, or refers to it by having all bits set.
bool agrees(std::uint64_t field, std::uint64_t mark, std::uint64_t value64) {
  return field == mark || field == value64;
}

// Reads the zip64 end record that the locator before the end record at `end_offset` points to.
Result<ZipEnd> read_end64(const ByteSource& file, const std::byte* locator,
                          std::uint64_t end_offset, const EndFields& end) {
  const std::uint64_t locator_offset = end_offset - kLocatorBytes;
  const std::uint64_t at = load_le64(locator + 8);
  const auto fail = [at](std::string_view what) {
    return make_error(ErrorCode::zip64_malformed, "the zip64 end record at byte ", at, ": ", what);
  };
  if (load_le32(locator + 4) != 0 || load_le32(locator + 16) > 1)
    return fail("it is on another disk");
  if (locator_offset < kEnd64Bytes || at != locator_offset - kEnd64Bytes)
    return fail("it does not end where its locator begins");
  std::byte bytes[kEnd64Bytes];
  FLATBED_TRY(file.read_at(at, bytes));
  if (load_le32(bytes) != kEnd64Signature) return fail("wrong signature");
  if (load_le64(bytes + 4) != kEnd64Bytes - 12)
    return fail(str_cat("wrong length: found ", load_le64(bytes + 4), ", expected 44"));
  if (load_le32(bytes + 16) != 0 || load_le32(bytes + 20) != 0)
    return fail("it names another disk");
  const ZipEnd found{load_le64(bytes + 48), load_le64(bytes + 40), load_le64(bytes + 32), 0};
  if (load_le64(bytes + 24) != found.entry_count) return fail("it counts entries on another disk");
  if (!agrees(end.entries, 0xFFFF, found.entry_count) ||
      !agrees(end.nbytes, 0xFFFFFFFF, found.directory_nbytes) ||
      !agrees(end.offset, 0xFFFFFFFF, found.directory_offset))
    return fail("it disagrees with the end record");
  if (found.directory_offset > at || found.directory_nbytes != at - found.directory_offset)
    return fail("it does not follow the central directory");
  return found;
}

// The end record at `at` of the tail, if everything around it is consistent.
Result<ZipEnd> check_end(const ByteSource& file, const Tail& tail, std::size_t at) {
  const std::uint64_t offset = tail.offset + at;
  if (tail.bytes.size() - at < kEndBytes) return cut_off(offset);
  const EndFields end = load_end(tail.bytes.data() + at);
  const std::uint64_t after = tail.bytes.size() - at - kEndBytes;
  if (end.comment > after) return cut_off(offset);
  if (end.disk != 0 || end.directory_disk != 0 || end.entries_here != end.entries)
    return malformed(offset, "the archive spans several disks");
  ZipEnd found{end.offset, end.nbytes, end.entries, 0};
  const std::byte* locator = at < kLocatorBytes ? nullptr : tail.bytes.data() + at - kLocatorBytes;
  if (locator != nullptr && load_le32(locator) == kLocatorSignature) {
    FLATBED_ASSIGN(found, read_end64(file, locator, offset, end));
  } else if (found.directory_offset > offset ||
             found.directory_nbytes != offset - found.directory_offset) {
    return malformed(offset, "it does not follow the central directory that it describes");
  }
  if (found.entry_count != 0) {
    std::byte signature[4];
    if (found.directory_nbytes < sizeof signature)
      return malformed(offset, "it describes an empty central directory");
    FLATBED_TRY(file.read_at(found.directory_offset, signature));
    if (load_le32(signature) != kDirectorySignature)
      return malformed(offset, "it does not point to a central directory");
  }
  found.trailing_nbytes = after - end.comment;
  return found;
}

Error ambiguous(std::uint64_t first, std::uint64_t second) {
  return make_error(ErrorCode::zip_end_ambiguous, "ambiguous zip: found end records at bytes ",
                    first, " and ", second, ", and readers disagree on which one counts");
}

}  // namespace

// The last end record must be valid and no earlier one may be. Then readers that scan from the
// front, from the back, or by the length of the comment all find the same record.
Result<ZipEnd> find_zip_end(const ByteSource& file) {
  Tail tail;
  tail.bytes.resize(std::min(file.size(), kTailBytes + kLocatorBytes));
  tail.offset = file.size() - tail.bytes.size();
  FLATBED_TRY(file.read_at(tail.offset, tail.bytes));
  const std::string_view text = as_text(tail.bytes);
  const std::size_t last = text.rfind(kEndSignature);
  const std::size_t first = text.size() > kTailBytes ? text.size() - kTailBytes : 0;
  if (last == std::string_view::npos || last < first)
    return make_error(ErrorCode::zip_end_missing, "no zip end record in the last ",
                      tail.bytes.size(), " bytes: the file is cut off or has data after the zip");
  Result<ZipEnd> found = check_end(file, tail, last);
  for (std::size_t at = text.find(kEndSignature, first); at < last;
       at = text.find(kEndSignature, at + 1)) {
    if (check_end(file, tail, at)) return ambiguous(tail.offset + at, tail.offset + last);
  }
  return found;
}

}  // namespace flatbed::pth
