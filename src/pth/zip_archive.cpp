// The two headers of a zip entry:
//
//   local    50 4b 03 04, u16 needed, u16 flags, u16 method, u16 time, u16 date, u32 crc, u32 stored nbytes, u32 nbytes,
//            u16 name nbytes, u16 extra nbytes, name, extra; then the data; then, with flag 8, a data descriptor
//   central  50 4b 01 02, u16 made by, u16 needed, u16 flags, u16 method, u16 time, u16 date, u32 crc, u32 stored
//            nbytes, u32 nbytes, u16 name nbytes, u16 extra nbytes, u16 comment nbytes, u16 disk, u16, u32,
//            u32 offset of the local header, name, extra, comment
//   extra    any number of (u16 id, u16 nbytes, bytes). Id 1 is zip64: a u64 for each of nbytes, stored nbytes and offset
//            whose 32-bit field has all bits set.
//
// torch sets flag 8 and leaves crc and sizes 0 in the local header.
#include "pth/zip_archive.hpp"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "base/bytes.hpp"
#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "pth/inflate.hpp"
#include "pth/zip_end.hpp"

namespace flatbed::pth {

namespace {

constexpr std::uint32_t kLocalSignature = 0x04034B50;
constexpr std::uint32_t kCentralSignature = 0x02014B50;
constexpr std::size_t kLocalBytes = 30;
constexpr std::size_t kCentralBytes = 46;
constexpr std::uint32_t kMark32 = 0xFFFFFFFF;  // in a 32-bit field: see the zip64 extra field
constexpr std::uint16_t kZip64Id = 0x0001;
constexpr std::uint16_t kUnicodePathId = 0x7075;

constexpr std::uint16_t kFlagDescriptor = 0x0008;  // crc and sizes follow the data
constexpr std::uint16_t kFlagUtf8 = 0x0800;
constexpr std::uint16_t kFlagsDeflateLevel = 0x0006;
constexpr std::uint16_t kStored = 0;
constexpr std::uint16_t kDeflated = 8;

// Local headers closer than this share a read: copying 4 KiB costs about as much as another system call.
constexpr std::uint64_t kWindowGap = 4096;
constexpr std::uint64_t kWindowBytes = 64 * 1024;

struct CentralFields {
  std::uint16_t flags, method;
  std::uint32_t crc, stored_nbytes, nbytes;
  std::uint16_t name_nbytes, extra_nbytes, comment_nbytes, disk;
  std::uint32_t offset;
};

CentralFields load_central(const std::byte* at) {
  return {load_le16(at + 8),  load_le16(at + 10), load_le32(at + 16), load_le32(at + 20), load_le32(at + 24),
          load_le16(at + 28), load_le16(at + 30), load_le16(at + 32), load_le16(at + 34), load_le32(at + 42)};
}

struct LocalFields {
  std::uint16_t flags, method;
  std::uint32_t crc, stored_nbytes, nbytes;
  std::uint16_t name_nbytes, extra_nbytes;
};

LocalFields load_local(const std::byte* at) {
  return {load_le16(at + 6),  load_le16(at + 8),  load_le32(at + 14), load_le32(at + 18),
          load_le32(at + 22), load_le16(at + 26), load_le16(at + 28)};
}

template <typename... Parts>
Error entry_error(ErrorCode code, std::string_view name, const Parts&... parts) {
  return make_error(code, "zip entry ", quoted(name), ": ", parts...);
}

// The contents of the extra field `id`. Nothing: there is none. Errors: a list that does not fit, or a field twice.
Result<std::optional<std::span<const std::byte>>> find_extra(std::span<const std::byte> extra, std::uint16_t id) {
  std::optional<std::span<const std::byte>> found;
  while (!extra.empty()) {
    if (extra.size() < 4 || load_le16(extra.data() + 2) > extra.size() - 4)
      return make_error(ErrorCode::zip_directory_malformed, "the extra fields do not fit their length");
    const std::size_t nbytes = load_le16(extra.data() + 2);
    if (load_le16(extra.data()) == id) {
      if (found) return make_error(ErrorCode::zip_directory_malformed, "extra field 0x", hex(id), " occurs twice");
      found = extra.subspan(4, nbytes);
    }
    extra = extra.subspan(4 + nbytes);
  }
  return found;
}

// Replaces each of the three fields that is marked by its 64-bit value. The zip64 field holds these and nothing else.
Result<void> apply_extra(std::span<const std::byte> extra, ZipEntry& entry) {
  std::uint64_t* const values[] = {&entry.nbytes, &entry.stored_nbytes, &entry.header_offset};
  std::size_t marked = 0;
  for (const std::uint64_t* value : values) marked += *value == kMark32 ? 1 : 0;
  if (extra.empty() && marked == 0) return {};

  FLATBED_ASSIGN(const auto unicode_path, find_extra(extra, kUnicodePathId));
  if (unicode_path) return make_error(ErrorCode::zip_name_refused, "it has a second name in extra field 0x7075");
  FLATBED_ASSIGN(const auto field, find_extra(extra, kZip64Id));
  const std::size_t nbytes = field ? field->size() : 0;
  if (nbytes != marked * 8 || (field && marked == 0))
    return make_error(ErrorCode::zip64_malformed, "its zip64 extra field has ", nbytes, " bytes, ", marked * 8,
                      " are wanted");
  std::size_t at = 0;
  for (std::uint64_t* value : values) {
    if (*value != kMark32) continue;
    *value = load_le64(field->data() + at);
    at += 8;
  }
  return {};
}

// Names are never used as paths; those that others would take as one are refused all the same.
Result<void> check_name(std::string_view name) {
  const auto refuse = [name](std::string_view why) {
    return entry_error(ErrorCode::zip_name_refused, name, "the name ", why);
  };
  if (name.empty()) return refuse("is empty");
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= name.size(); ++i) {
    if (i < name.size() && (name[i] == '\\' || static_cast<unsigned char>(name[i]) < 0x20))
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

Result<void> check_kind(const CentralFields& fields, const ZipEntry& entry) {
  if (fields.method != kStored && fields.method != kDeflated)
    return entry_error(ErrorCode::zip_method_refused, entry.name, "method ", fields.method,
                       ", wanted 0 (stored) or 8 (deflated)");
  const unsigned allowed =
      kFlagDescriptor | kFlagUtf8 | (fields.method == kDeflated ? kFlagsDeflateLevel : unsigned{0});
  if ((fields.flags & ~allowed) != 0)
    return entry_error(ErrorCode::zip_flags_refused, entry.name, "flags 0x", hex(fields.flags),
                       (fields.flags & 0x2041) != 0 ? " (encrypted)" : "", ", allowed are 0x", hex(allowed));
  if (fields.disk != 0) return entry_error(ErrorCode::zip_directory_malformed, entry.name, "on disk ", fields.disk);
  if (fields.method == kStored && entry.nbytes != entry.stored_nbytes)
    return entry_error(ErrorCode::zip_directory_malformed, entry.name, "stored as it is, but ", entry.stored_nbytes,
                       " bytes become ", entry.nbytes);
  if (!may_inflate_to(entry.stored_nbytes, entry.nbytes) && fields.method == kDeflated)
    return entry_error(ErrorCode::zip_deflate_malformed, entry.name, entry.stored_nbytes,
                       " deflated bytes cannot inflate to ", entry.nbytes);
  if (entry.name.ends_with('/') && entry.nbytes != 0)
    return entry_error(ErrorCode::zip_directory_malformed, entry.name, "a folder with ", entry.nbytes, " bytes");
  return {};
}

// Reads ranges at rising offsets through one buffer.
class ForwardWindow {
 public:
  explicit ForwardWindow(const File& file) : file_(file), buffer_(kWindowBytes + 0x10000) {}

  // The `nbytes` (at most 65,565, and inside the file) at `offset`. When they must be read, what follows up to
  // `ahead_end` is read with them, up to kWindowBytes.
  Result<std::span<const std::byte>> get(std::uint64_t offset, std::size_t nbytes, std::uint64_t ahead_end) {
    if (offset < begin_ || !in_bounds(offset - begin_, nbytes, filled_)) {
      const std::uint64_t ahead = ahead_end > offset ? std::min(ahead_end - offset, kWindowBytes) : 0;
      filled_ = 0;
      const auto count = static_cast<std::size_t>(std::max<std::uint64_t>(nbytes, std::min(ahead, file_.size() - offset)));
      FLATBED_TRY(file_.read_at(offset, std::span(buffer_).first(count)));
      begin_ = offset;
      filled_ = count;
    }
    return std::span<const std::byte>(buffer_).subspan(offset - begin_, nbytes);
  }

 private:
  const File& file_;
  std::vector<std::byte> buffer_;
  std::uint64_t begin_ = 0;
  std::size_t filled_ = 0;
};

// Whether a size of the local header is the directory's. A deferred one (flag 8) may also be 0.
bool agrees(std::uint64_t local, std::uint64_t central, bool deferred) {
  return local == central || (deferred && local == 0);
}

Result<void> check_local_sizes(const ZipEntry& entry, const LocalFields& local, std::uint32_t central_crc,
                               std::span<const std::byte> extra) {
  const bool deferred = (local.flags & kFlagDescriptor) != 0;
  std::uint64_t nbytes = local.nbytes;
  std::uint64_t stored_nbytes = local.stored_nbytes;
  if (nbytes == kMark32 || stored_nbytes == kMark32) {
    FLATBED_ASSIGN(const auto field, find_extra(extra, kZip64Id));
    std::size_t at = 0;
    for (std::uint64_t* value : {&nbytes, &stored_nbytes}) {
      if (*value != kMark32) continue;
      if (!field || field->size() < at + 8)
        return make_error(ErrorCode::zip64_malformed, "the local header's zip64 extra field is missing or too short");
      *value = load_le64(field->data() + at);
      at += 8;
    }
  }
  if (!agrees(local.crc, central_crc, deferred))
    return make_error(ErrorCode::zip_local_mismatch, "the local header has another crc");
  if (!agrees(nbytes, entry.nbytes, deferred) || !agrees(stored_nbytes, entry.stored_nbytes, deferred))
    return make_error(ErrorCode::zip_local_mismatch, "the local header says ", stored_nbytes, " bytes that become ",
                      nbytes, ", the directory ", entry.stored_nbytes, " that become ", entry.nbytes);
  return {};
}

// What does not need the extra fields; they are looked at only when a size is marked.
Result<void> check_local(const ZipEntry& entry, const CentralFields& central, const LocalFields& local,
                         std::string_view local_name) {
  if (local.flags != central.flags)
    return make_error(ErrorCode::zip_local_mismatch, "the local header has flags 0x", hex(local.flags),
                      ", the directory 0x", hex(central.flags));
  if (local.method != central.method)
    return make_error(ErrorCode::zip_local_mismatch, "the local header has method ", local.method,
                      ", the directory ", central.method);
  if (local.name_nbytes != entry.name.size() || local_name != entry.name)
    return make_error(ErrorCode::zip_local_mismatch, "the local header has a name of ", local.name_nbytes,
                      " bytes, ", quoted(local_name));
  return {};
}

// What surrounds an entry: where the next one (or the directory) begins, and how far local headers stand close together.
struct Surroundings {
  std::uint64_t next_offset = 0;
  std::uint64_t ahead_end = 0;
};

// Compares the local header with the directory and finds the data behind it.
Result<void> check_local_header(const File& file, ForwardWindow& window, ZipEntry& entry, const Surroundings& around) {
  const std::size_t fixed = kLocalBytes + entry.name.size();
  if (!in_bounds(entry.header_offset, fixed, file.size()))
    return make_error(ErrorCode::zip_out_of_bounds, "its local header at byte ", entry.header_offset,
                      " leaves the file of ", file.size(), " bytes");
  FLATBED_ASSIGN(const auto bytes, window.get(entry.header_offset, fixed, around.ahead_end));
  if (load_le32(bytes.data()) != kLocalSignature)
    return make_error(ErrorCode::zip_local_mismatch, "no local header at byte ", entry.header_offset);
  const LocalFields local = load_local(bytes.data());
  const CentralFields central = load_central(as_bytes(entry.name).data() - kCentralBytes);
  FLATBED_TRY(check_local(entry, central, local, as_text(bytes.subspan(kLocalBytes))));

  const std::uint64_t extra_offset = entry.header_offset + fixed;
  entry.data_offset = extra_offset + local.extra_nbytes;
  if (!in_bounds(entry.data_offset, entry.stored_nbytes, file.size()))
    return make_error(ErrorCode::zip_out_of_bounds, "its ", entry.stored_nbytes, " bytes at byte ", entry.data_offset,
                      " leave the file of ", file.size(), " bytes");
  std::span<const std::byte> extra;
  if (local.nbytes == kMark32 || local.stored_nbytes == kMark32) {
    FLATBED_ASSIGN(extra, window.get(extra_offset, local.extra_nbytes, around.ahead_end));
  }
  FLATBED_TRY(check_local_sizes(entry, local, central.crc, extra));
  if (entry.data_offset + entry.stored_nbytes > around.next_offset)
    return make_error(ErrorCode::zip_overlap, "its bytes [", entry.header_offset, ", ",
                      entry.data_offset + entry.stored_nbytes, ") reach into what begins at byte ",
                      around.next_offset);
  return {};
}

char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

}  // namespace

Result<ZipArchive> ZipArchive::open(const File& file) {
  FLATBED_ASSIGN(const ZipEnd end, find_zip_end(file));
  if (end.directory_nbytes > kMaxDirectoryBytes)
    return make_error(ErrorCode::limit_exceeded, "the zip's central directory has ", end.directory_nbytes,
                      " bytes, the limit is ", kMaxDirectoryBytes);
  if (end.entry_count > end.directory_nbytes / kCentralBytes)
    return make_error(ErrorCode::zip_directory_malformed, "the zip counts ", end.entry_count,
                      " entries, its central directory of ", end.directory_nbytes, " bytes cannot hold them");
  ZipArchive archive;
  archive.directory_offset_ = end.directory_offset;
  archive.trailing_nbytes_ = end.trailing_nbytes;
  archive.directory_.resize(end.directory_nbytes);
  FLATBED_TRY(file.read_at(end.directory_offset, archive.directory_));
  FLATBED_TRY(archive.parse_directory(end.entry_count));
  FLATBED_TRY(archive.check_local_headers(file));
  return archive;
}

Result<void> ZipArchive::parse_directory(std::uint64_t entry_count) {
  const std::span<const std::byte> directory(directory_);
  folded_.resize(directory.size());
  entries_.reserve(entry_count);
  index_ = NameIndex(entry_count);
  std::size_t at = 0;
  for (std::uint64_t i = 0; i < entry_count; ++i) {
    const auto fail = [&](std::string_view what) {
      return make_error(ErrorCode::zip_directory_malformed, "the zip's central directory, entry ", i, ": ", what);
    };
    if (directory.size() - at < kCentralBytes) return fail("the directory ends here");
    if (load_le32(directory.data() + at) != kCentralSignature) return fail("another signature");
    const CentralFields fields = load_central(directory.data() + at);
    const std::size_t tail = std::size_t{fields.name_nbytes} + fields.extra_nbytes + fields.comment_nbytes;
    if (tail > directory.size() - at - kCentralBytes) return fail("the directory ends inside it");
    const std::span<const std::byte> name = directory.subspan(at + kCentralBytes, fields.name_nbytes);
    const std::span<const std::byte> extra = directory.subspan(at + kCentralBytes + name.size(), fields.extra_nbytes);
    ZipEntry entry{as_text(name), fields.offset, 0, fields.stored_nbytes, fields.nbytes, fields.method == kDeflated};
    FLATBED_TRY(check_name(entry.name));
    if (auto ok = apply_extra(extra, entry); !ok)
      return with_context(str_cat("zip entry ", quoted(entry.name)), std::move(ok).error());
    FLATBED_TRY(check_kind(fields, entry));
    entries_.push_back(entry);
    FLATBED_TRY(add_name(entry.name));
    at += kCentralBytes + tail;
  }
  if (at != directory.size())
    return make_error(ErrorCode::zip_directory_malformed, "the zip's central directory has ", directory.size(),
                      " bytes, its ", entry_count, " entries take ", at);
  return {};
}

// Refuses a name that was there before, in whatever case: torch finds records without regard to case.
Result<void> ZipArchive::add_name(std::string_view name) {
  char* const lower = folded_.data() + (name.data() - as_text(directory_).data());
  std::transform(name.begin(), name.end(), lower, to_lower);
  const auto number = static_cast<std::uint32_t>(entries_.size() - 1);
  const auto there = index_.insert({lower, name.size()}, number,
                                   [this](std::uint32_t n) { return folded(entries_[n].name); });
  if (there)
    return entry_error(ErrorCode::zip_duplicate_name, name, "there is also ", quoted(entries_[*there].name));
  return {};
}

std::string_view ZipArchive::folded(std::string_view name) const {
  return {folded_.data() + (name.data() - as_text(directory_).data()), name.size()};
}

const ZipEntry* ZipArchive::find(std::string_view name) const {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(), to_lower);
  const auto found = index_.find(lower, [this](std::uint32_t n) { return folded(entries_[n].name); });
  return found && entries_[*found].name == name ? &entries_[*found] : nullptr;
}

// In the order of the file: each header agrees with the directory and each entry ends before the next begins.
Result<void> ZipArchive::check_local_headers(const File& file) {
  std::vector<std::uint32_t> order(entries_.size());
  std::iota(order.begin(), order.end(), 0U);
  const auto offset_of = [this](std::uint32_t n) { return entries_[n].header_offset; };
  if (!std::ranges::is_sorted(order, {}, offset_of)) std::ranges::sort(order, {}, offset_of);
  if (!order.empty() && offset_of(order[0]) != 0)
    return make_error(ErrorCode::zip_directory_malformed, "the first zip entry begins at byte ", offset_of(order[0]),
                      ", wanted 0: something stands before it");

  ForwardWindow window(file);
  std::size_t close = 0;  // the headers from the present one to this one stand close together
  for (std::size_t i = 0; i < order.size(); ++i) {
    for (close = std::max(close, i); close + 1 < order.size(); ++close) {
      if (offset_of(order[close + 1]) - offset_of(order[close]) > kWindowGap) break;
    }
    const ZipEntry& last = entries_[order[close]];
    const Surroundings around{i + 1 < order.size() ? offset_of(order[i + 1]) : directory_offset_,
                              last.header_offset + kLocalBytes + last.name.size()};
    ZipEntry& entry = entries_[order[i]];
    if (auto ok = check_local_header(file, window, entry, around); !ok)
      return with_context(str_cat("zip entry ", quoted(entry.name)), std::move(ok).error());
  }
  return {};
}

Result<ByteBuffer> read_entry(const File& file, const ZipEntry& entry, std::uint64_t max_nbytes) {
  if (entry.nbytes > max_nbytes)
    return entry_error(ErrorCode::limit_exceeded, entry.name, entry.nbytes, " bytes, the limit is ", max_nbytes);
  ByteBuffer contents(entry.nbytes);
  const std::span<std::byte> out(contents);
  const auto read = [&]() -> Result<void> {
    if (!entry.deflated) return file.read_at(entry.data_offset, out);
    FLATBED_ASSIGN(InflateReader reader,
                   InflateReader::open(file, {entry.data_offset, entry.stored_nbytes, entry.nbytes}));
    return reader.read(0, out);
  };
  if (auto ok = read(); !ok) return with_context(str_cat("zip entry ", quoted(entry.name)), std::move(ok).error());
  return contents;
}

}  // namespace flatbed::pth
