#include "archive/zip_archive.hpp"

#include <algorithm>
#include <utility>

#include "archive/crc32.hpp"
#include "archive/inflate.hpp"
#include "archive/zip_end.hpp"
#include "archive/zip_local.hpp"
#include "base/ascii.hpp"
#include "base/bytes.hpp"
#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "base/utf8.hpp"
#include "io/reread.hpp"

namespace flatbed::pth {

namespace {

constexpr std::size_t kRereadAhead = 1 << 20;  // an inflater asks for little at a time

template <typename... Parts>
Error entry_error(ErrorCode code, std::string_view name, const Parts&... parts) {
  return make_error(code, "zip entry ", quoted(name), ": ", parts...);
}

// Replaces each marked field by its 64-bit value. The zip64 field must hold these values and
// nothing else.
Result<void> apply_extra(std::span<const std::byte> extra, ZipEntry& entry) {
  std::uint64_t* const values[] = {&entry.nbytes, &entry.stored_nbytes, &entry.header_offset};
  std::size_t marked = 0;
  for (const std::uint64_t* value : values) marked += *value == zip::kMark32 ? 1 : 0;
  if (extra.empty() && marked == 0) return {};

  FLATBED_ASSIGN(const auto unicode_path, zip::find_extra(extra, zip::kUnicodePathId));
  if (unicode_path)
    return make_error(ErrorCode::zip_name_refused, "extra field 0x7075 gives it a second name");
  FLATBED_ASSIGN(const auto field, zip::find_extra(extra, zip::kZip64Id));
  const std::size_t nbytes = field ? field->size() : 0;
  if (nbytes != marked * 8 || (field && marked == 0))
    return make_error(ErrorCode::zip64_malformed, "wrong size of its zip64 extra field: found ",
                      nbytes, " bytes, expected ", marked * 8);
  std::size_t at = 0;
  for (std::uint64_t* value : values) {
    if (*value != zip::kMark32) continue;
    *value = load_le64(field->data() + at);
    at += 8;
  }
  return {};
}

// Whether the backslash at `i` is the second byte of a character of GBK or Shift-JIS. torch names
// the folder of all records after the file, in whatever encoding that name had.
bool is_in_character(std::string_view name, std::size_t i) {
  const std::string_view folder = name.substr(0, name.find('/'));
  return i < folder.size() && i > 0 && static_cast<unsigned char>(name[i - 1]) >= 0x80 &&
         !is_utf8(folder);
}

// Names are never used as paths here, but a name that another program could use as a path is
// refused.
Result<void> check_name(std::string_view name) {
  const auto refuse = [name](std::string_view why) {
    return entry_error(ErrorCode::zip_name_refused, name, "the name ", why);
  };
  if (name.empty()) return refuse("is empty");
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= name.size(); ++i) {
    const bool backslash = i < name.size() && name[i] == '\\' && !is_in_character(name, i);
    if (backslash || (i < name.size() && static_cast<unsigned char>(name[i]) < 0x20))
      return refuse("has a backslash or control character");
    if (i < name.size() && name[i] != '/') continue;
    const std::string_view part = name.substr(begin, i - begin);
    const bool folder_end = i == name.size() && i != 0;
    if ((part.empty() && !folder_end) || part == "." || part == "..")
      return refuse("has an empty, '.' or '..' component");
    begin = i + 1;
  }
  return {};
}

Result<void> check_kind(const zip::CentralFields& fields, const ZipEntry& entry) {
  if (fields.method != zip::kStored && fields.method != zip::kDeflated)
    return entry_error(ErrorCode::zip_method_refused, entry.name,
                       "unsupported compression method: found ", fields.method,
                       ", expected 0 (stored) or 8 (deflated)");
  const unsigned allowed =
      zip::kFlagDescriptor | zip::kFlagUtf8 |
      (fields.method == zip::kDeflated ? zip::kFlagsDeflateLevel : unsigned{0});
  if ((fields.flags & ~allowed) != 0)
    return entry_error(ErrorCode::zip_flags_refused, entry.name, "unsupported flags: found 0x",
                       hex(fields.flags), (fields.flags & 0x2041) != 0 ? " (encrypted)" : "",
                       ", expected only bits of 0x", hex(allowed));
  // torch sets the flag whatever the encoding of its folder is.
  const std::string_view record =
      std::string_view(entry.name).substr(std::min(entry.name.find('/'), entry.name.size()));
  if ((fields.flags & zip::kFlagUtf8) != 0 && !is_utf8(record))
    return entry_error(ErrorCode::zip_name_refused, entry.name,
                       "its flags say that the name is UTF-8, but it is not");
  if (fields.disk != 0)
    return entry_error(ErrorCode::zip_directory_malformed, entry.name, "wrong disk number: found ",
                       fields.disk, ", expected 0");
  if (fields.method == zip::kStored && entry.nbytes != entry.stored_nbytes)
    return entry_error(ErrorCode::zip_directory_malformed, entry.name,
                       "wrong size of a stored entry: found ", entry.stored_nbytes,
                       " bytes, expected ", entry.nbytes);
  if (!may_inflate_to(entry.stored_nbytes, entry.nbytes) && fields.method == zip::kDeflated)
    return entry_error(ErrorCode::zip_deflate_malformed, entry.name, entry.stored_nbytes,
                       " deflated bytes cannot inflate to ", entry.nbytes);
  if (entry.name.ends_with('/') && entry.nbytes != 0)
    return entry_error(ErrorCode::zip_directory_malformed, entry.name,
                       "wrong size of a folder: found ", entry.nbytes, " bytes, expected 0");
  return {};
}

// The name in lower case, in a buffer that is reused.
std::string_view lower_case(std::string_view name, std::string& memory) {
  memory.resize(name.size());
  std::ranges::transform(name, memory.begin(), to_lower);
  return memory;
}

Result<void> read_once(const ByteSource& file, const ZipEntry& entry, std::span<std::byte> out) {
  if (!entry.deflated) return file.read_at(entry.data_offset, out);
  FLATBED_ASSIGN(InflateReader reader,
                 InflateReader::open(file, {entry.data_offset, entry.stored_nbytes, entry.nbytes}));
  return reader.read(0, out);
}

// What does not inflate, or has another CRC, may have been damaged on the way. A CRC that stays
// wrong is the file's, and no error here.
Result<void> read_or_reread(const ByteSource& file, const ZipEntry& entry,
                            std::span<std::byte> out) {
  Result<void> read = read_once(file, entry, out);
  const auto damaged = [&] {
    if (!read) return read.error().code == ErrorCode::zip_deflate_malformed;
    return entry.crc != 0 && crc32_of(out) != entry.crc;
  };
  for (unsigned left = file.max_rereads(); left > 0 && damaged(); --left) {
    const RereadSource again(file, {kRereadAhead, entry.data_offset + entry.stored_nbytes});
    read = read_once(again, entry, out);
  }
  return read;
}

}  // namespace

Result<ZipArchive> ZipArchive::open(const ByteSource& file) {
  FLATBED_ASSIGN(const ZipEnd end, find_zip_end(file));
  if (end.directory_nbytes > kMaxDirectoryBytes)
    return make_error(ErrorCode::limit_exceeded, "the zip's central directory is too large: found ",
                      end.directory_nbytes, " bytes, the limit is ", kMaxDirectoryBytes);
  if (end.entry_count > end.directory_nbytes / zip::kCentralBytes)
    return make_error(ErrorCode::zip_directory_malformed, "too many zip entries: found ",
                      end.entry_count, " in a central directory of ", end.directory_nbytes,
                      " bytes");
  ZipArchive archive;
  archive.trailing_nbytes_ = end.trailing_nbytes;
  archive.directory_.resize(end.directory_nbytes);
  FLATBED_TRY(file.read_at(end.directory_offset, archive.directory_));
  FLATBED_TRY(archive.parse_directory(end.entry_count));
  FLATBED_TRY(check_local_headers(file, archive.entries_, end.directory_offset));
  return archive;
}

Result<void> ZipArchive::parse_directory(std::uint64_t entry_count) {
  const std::span<const std::byte> directory(directory_);
  std::string lower;
  entries_.reserve(entry_count);
  index_ = NameIndex(entry_count);
  std::size_t at = 0;
  for (std::uint64_t i = 0; i < entry_count; ++i) {
    const auto fail = [&](std::string_view what) {
      return make_error(ErrorCode::zip_directory_malformed, "the zip's central directory, entry ",
                        i, ": ", what);
    };
    if (directory.size() - at < zip::kCentralBytes) return fail("the directory ends before it");
    if (load_le32(directory.data() + at) != zip::kCentralSignature) return fail("wrong signature");
    const zip::CentralFields fields = zip::load_central(directory.data() + at);
    const std::size_t tail =
        std::size_t{fields.name_nbytes} + fields.extra_nbytes + fields.comment_nbytes;
    if (tail > directory.size() - at - zip::kCentralBytes)
      return fail("the directory ends inside it");
    const std::span<const std::byte> name =
        directory.subspan(at + zip::kCentralBytes, fields.name_nbytes);
    const std::span<const std::byte> extra =
        directory.subspan(at + zip::kCentralBytes + name.size(), fields.extra_nbytes);
    ZipEntry entry{as_text(name),
                   fields.offset,
                   0,
                   fields.stored_nbytes,
                   fields.nbytes,
                   fields.crc,
                   fields.method == zip::kDeflated};
    FLATBED_TRY(check_name(entry.name));
    if (auto ok = apply_extra(extra, entry); !ok)
      return with_context(str_cat("zip entry ", quoted(entry.name)), std::move(ok).error());
    FLATBED_TRY(check_kind(fields, entry));
    entries_.push_back(entry);
    FLATBED_TRY(add_name(entry.name, lower));
    at += zip::kCentralBytes + tail;
  }
  if (at != directory.size())
    return make_error(ErrorCode::zip_directory_malformed,
                      "wrong size of the zip's central directory: found ", directory.size(),
                      " bytes, its ", entry_count, " entries take ", at);
  return {};
}

// Refuses a name that exists already in any case, because torch finds records without regard to
// case.
Result<void> ZipArchive::add_name(std::string_view name, std::string& lower) {
  const auto number = static_cast<std::uint32_t>(entries_.size() - 1);
  std::string other;
  const auto there = index_.insert(lower_case(name, lower), number, [&](std::uint32_t n) {
    return lower_case(entries_[n].name, other);
  });
  if (there)
    return entry_error(ErrorCode::zip_duplicate_name, name, "duplicate name: the zip also has ",
                       quoted(entries_[*there].name));
  return {};
}

const ZipEntry* ZipArchive::find(std::string_view name) const {
  std::string lower, other;
  const auto found = index_.find(lower_case(name, lower), [&](std::uint32_t n) {
    return lower_case(entries_[n].name, other);
  });
  return found && entries_[*found].name == name ? &entries_[*found] : nullptr;
}

Result<ByteBuffer> read_entry(const ByteSource& file, const ZipEntry& entry,
                              std::uint64_t max_nbytes) {
  if (entry.nbytes > max_nbytes)
    return entry_error(ErrorCode::limit_exceeded, entry.name, "the entry is too large: found ",
                       entry.nbytes, " bytes, the limit is ", max_nbytes);
  ByteBuffer contents(entry.nbytes);
  if (auto read = read_or_reread(file, entry, contents); !read)
    return with_context(str_cat("zip entry ", quoted(entry.name)), std::move(read).error());
  return contents;
}

}  // namespace flatbed::pth
