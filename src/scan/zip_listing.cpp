#include "scan/zip_listing.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <span>
#include <string_view>
#include <utility>

#include "archive/zip_archive.hpp"
#include "archive/zip_entry.hpp"
#include "base/bytes.hpp"
#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "io/large_allocator.hpp"
#include "scan/zip_directories.hpp"

namespace flatbed::pth {

namespace {

constexpr std::uint32_t kDescriptorSignature = 0x08074B50;
constexpr std::size_t kLongestDescriptor = 24;

// [signature] crc32 stored_nbytes nbytes, with sizes of 4 or 8 bytes.
struct DescriptorForm {
  std::size_t nbytes;
  bool has_signature;
  bool wide;
};
constexpr std::array kDescriptorForms{
    DescriptorForm{24, true, true}, DescriptorForm{20, false, true},
    DescriptorForm{16, true, false}, DescriptorForm{12, false, false}};

bool describes(const ZipView& view, std::span<const std::byte> bytes, const DescriptorForm& form) {
  if (form.has_signature && load_le32(bytes.data()) != kDescriptorSignature) return false;
  const std::byte* at = bytes.data() + (form.has_signature ? 4 : 0);
  const std::uint64_t stored = form.wide ? load_le64(at + 4) : load_le32(at + 4);
  const std::uint64_t nbytes = form.wide ? load_le64(at + 12) : load_le32(at + 8);
  return load_le32(at) == view.crc && stored == view.stored_nbytes && nbytes == view.nbytes;
}
constexpr std::size_t kMaxHidden = 1000;  // local headers that no directory lists
constexpr std::uint64_t kSweep = 1 << 20;

class ZipLister {
 public:
  ZipLister(const ByteSource& file, ScanLog& log) : file_(file), log_(log) {}

  Result<std::vector<ZipView>> list() {
    FLATBED_ASSIGN(directories_, find_directories(file_, log_));
    for (const ZipDirectory& directory : directories_.found) FLATBED_TRY(read_directory(directory));
    FLATBED_TRY(check_entries());
    views_.insert(views_.end(), others_.begin(), others_.end());
    return std::move(views_);
  }

 private:
  Result<void> read_directory(const ZipDirectory& directory);
  void add_entry(const zip::CentralFields& fields, std::span<const std::byte> tail,
                 std::uint64_t shift, std::uint64_t at);
  Result<void> check_entries();
  Result<std::uint64_t> check_entry(ZipView& view, std::uint64_t next);
  Result<void> compare(const ZipView& view, std::span<const std::byte> local);
  Result<std::uint64_t> check_descriptor(const ZipView& view, std::uint64_t end,
                                         std::uint64_t next);
  Result<void> sweep(std::uint64_t begin, std::uint64_t end);
  Result<void> add_hidden(std::uint64_t at, std::uint64_t end);

  const ByteSource& file_;
  ScanLog& log_;
  ZipDirectories directories_;
  std::vector<ZipView> views_;   // from directories
  std::vector<ZipView> others_;  // from local headers
};

Result<void> ZipLister::read_directory(const ZipDirectory& directory) {
  if (directory.nbytes > kMaxDirectoryBytes) {
    log_.container("", directory.offset, "the central directory is too long to read");
    return {};
  }
  ByteBuffer bytes(static_cast<std::size_t>(directory.nbytes));
  FLATBED_TRY(file_.read_at(directory.offset, bytes));
  std::size_t at = 0;
  std::uint64_t count = 0;
  while (bytes.size() - at >= zip::kCentralBytes &&
         load_le32(bytes.data() + at) == zip::kCentralSignature) {
    const zip::CentralFields fields = zip::load_central(bytes.data() + at);
    const std::size_t tail =
        std::size_t{fields.name_nbytes} + fields.extra_nbytes + fields.comment_nbytes;
    if (tail > bytes.size() - at - zip::kCentralBytes) break;
    add_entry(fields, std::span<const std::byte>(bytes).subspan(at + zip::kCentralBytes, tail),
              directory.shift, directory.offset + at);
    at += zip::kCentralBytes + tail;
    ++count;
  }
  if (at != bytes.size())
    log_.container("", directory.offset + at, "the central directory is broken from here on");
  if (count != directory.count)
    log_.container("", directory.offset,
                   str_cat("the central directory has ", count, " entries, the end record states ",
                           directory.count));
  return {};
}

void ZipLister::add_entry(const zip::CentralFields& fields, std::span<const std::byte> tail,
                          std::uint64_t shift, std::uint64_t at) {
  ZipView view;
  view.name = as_text(tail.first(fields.name_nbytes));
  view.stored_nbytes = fields.stored_nbytes;
  view.nbytes = fields.nbytes;
  view.header_offset = fields.offset;
  view.crc = fields.crc;
  view.flags = fields.flags;
  view.method = fields.method;
  const std::span<const std::byte> extra = tail.subspan(fields.name_nbytes, fields.extra_nbytes);
  const auto zip64 = zip::find_extra(extra, zip::kZip64Id);
  const auto path = zip::find_extra(extra, zip::kUnicodePathId);
  if (!zip64 || !path) {
    log_.container(view.name, at, "its extra fields are malformed");
  } else {
    if (*path) log_.container(view.name, at, "extra field 0x7075 gives it a second name");
    std::span<const std::byte> values = zip64->value_or(std::span<const std::byte>());
    bool fits = true;
    for (std::uint64_t* value : {&view.nbytes, &view.stored_nbytes, &view.header_offset}) {
      if (*value != zip::kMark32) continue;
      fits = fits && values.size() >= 8;
      if (!fits) break;
      *value = load_le64(values.data());
      values = values.subspan(8);
    }
    if (!fits || !values.empty()) log_.container(view.name, at, "its zip64 field does not fit");
  }
  if (fields.disk != 0) log_.container(view.name, at, "it is on another disk");
  if (view.header_offset <= UINT64_MAX - shift) view.header_offset += shift;
  const auto same = [&](const ZipView& other) {
    return other.header_offset == view.header_offset && other.name == view.name &&
           other.nbytes == view.nbytes && other.stored_nbytes == view.stored_nbytes;
  };
  // The same entry in two directories. Within one directory they are duplicates, which are found
  // elsewhere.
  if (directories_.found.size() > 1 && views_.size() < kMaxHidden &&
      std::any_of(views_.begin(), views_.end(), same))
    return;
  views_.push_back(std::move(view));
}

// Visits the entries in file order, with what lies between them.
Result<void> ZipLister::check_entries() {
  std::vector<std::uint32_t> order(views_.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::sort(order, {}, [&](std::uint32_t i) { return views_[i].header_offset; });
  std::uint64_t limit = directories_.found.empty() ? file_.size() : directories_.last;
  for (const ZipDirectory& directory : directories_.found)
    limit = std::min(limit, directory.offset);
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < order.size() && !log_.cancelled(); ++i) {
    ZipView& view = views_[order[i]];
    const std::uint64_t next = i + 1 < order.size() ? views_[order[i + 1]].header_offset : limit;
    if (view.header_offset > end) FLATBED_TRY(sweep(end, std::min(view.header_offset, limit)));
    if (view.header_offset < end || view.header_offset >= limit)
      log_.container(view.name, view.header_offset, "it overlaps something else");
    FLATBED_ASSIGN(const std::uint64_t entry_end, check_entry(view, next));
    end = std::max(end, entry_end);
  }
  if (end > limit) log_.container("", limit, "the last entry overlaps the directory");
  if (end < limit) FLATBED_TRY(sweep(end, limit));
  // Checks what lies between a directory and the end records.
  for (const ZipDirectory& directory : directories_.found) {
    const std::uint64_t behind = directory.offset + directory.nbytes;
    if (behind < directories_.last && directories_.found.size() == 1)
      FLATBED_TRY(sweep(behind, directories_.last));
  }
  return {};
}

// Reads the local header and finds the data after it. Returns where the entry ends. `next` is where
// the next one begins.
Result<std::uint64_t> ZipLister::check_entry(ZipView& view, std::uint64_t next) {
  view.inside = false;
  const std::uint64_t at = view.header_offset;
  std::array<std::byte, zip::kLocalBytes> fixed;
  if (!in_bounds(at, fixed.size(), file_.size())) {
    log_.container(view.name, at, "its local header is not in the file");
    return std::uint64_t{0};
  }
  FLATBED_TRY(file_.read_at(at, fixed));
  const zip::LocalFields local = zip::load_local(fixed.data());
  const std::size_t nbytes = fixed.size() + local.name_nbytes + local.extra_nbytes;
  if (load_le32(fixed.data()) != zip::kLocalSignature || !in_bounds(at, nbytes, file_.size())) {
    log_.container(view.name, at, "it has no local header");
    return at;
  }
  std::vector<std::byte> header(nbytes);
  FLATBED_TRY(file_.read_at(at, header));
  view.data_offset = at + nbytes;
  view.inside = in_bounds(view.data_offset, view.stored_nbytes, file_.size());
  if (!view.inside) log_.container(view.name, at, "its data extends past the end of the file");
  FLATBED_TRY(compare(view, header));
  return view.inside ? check_descriptor(view, view.data_offset + view.stored_nbytes, next)
                     : Result<std::uint64_t>(view.data_offset);
}

// Compares the local header with the directory. A difference is another view of the entry.
Result<void> ZipLister::compare(const ZipView& view, std::span<const std::byte> header) {
  const zip::LocalFields local = zip::load_local(header.data());
  ZipView other = view;
  other.listed = false;
  other.name = as_text(header.subspan(zip::kLocalBytes, local.name_nbytes));
  other.flags = local.flags;
  other.method = local.method;
  const bool deferred =
      (local.flags & zip::kFlagDescriptor) != 0 && local.nbytes == 0 && local.stored_nbytes == 0;
  const bool wide = local.nbytes == zip::kMark32 || local.stored_nbytes == zip::kMark32;
  if (!deferred && !wide) {
    other.nbytes = local.nbytes;
    other.stored_nbytes = local.stored_nbytes;
    other.crc = local.crc;
  }
  std::string differs;
  if (other.name != view.name)
    differs = str_cat("has the name ", quoted(std::string_view(other.name)));
  if (other.method != view.method) differs = str_cat("has method ", local.method);
  if (other.flags != view.flags) differs = str_cat("has flags 0x", hex(local.flags));
  if (other.nbytes != view.nbytes || other.stored_nbytes != view.stored_nbytes)
    differs = str_cat("states ", local.stored_nbytes, " stored bytes for ", local.nbytes);
  if (differs.empty() && other.crc != view.crc) differs = "has another CRC";
  if (differs.empty()) return {};
  log_.container(view.name, view.header_offset,
                 str_cat("its local header ", differs, ", the directory does not"));
  other.inside = in_bounds(other.data_offset, other.stored_nbytes, file_.size());
  others_.push_back(std::move(other));
  return {};
}

// The descriptor after the data, by which stream readers find the end of the data. Returns where it
// ends.
Result<std::uint64_t> ZipLister::check_descriptor(const ZipView& view, std::uint64_t end,
                                                  std::uint64_t next) {
  if ((view.flags & zip::kFlagDescriptor) == 0 || next < end) return end;
  std::array<std::byte, kLongestDescriptor> buffer;
  const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(next - end, buffer.size()));
  const std::span<const std::byte> bytes(buffer.data(), count);
  FLATBED_TRY(file_.read_at(end, std::span(buffer).first(count)));
  bool fills = false;
  for (const DescriptorForm& form : kDescriptorForms) {
    if (form.nbytes <= count && describes(view, bytes, form)) return end + form.nbytes;
    fills = fills || next - end == form.nbytes;
  }
  const bool is_signed = count >= 16 && load_le32(bytes.data()) == kDescriptorSignature;
  log_.container(view.name, end,
                 fills || is_signed ? "its descriptor disagrees with the directory"
                                    : "no descriptor follows, although its flags announce one");
  return fills ? next : is_signed ? end + 16 : end;
}

// Bytes that belong to no entry. Local headers among them are entries that no directory lists.
Result<void> ZipLister::sweep(std::uint64_t begin, std::uint64_t end) {
  if (begin >= end) return {};
  log_.container("", begin, str_cat(end - begin, " bytes belong to no entry"));
  constexpr std::string_view kLocal("PK\x03\x04", 4);
  ByteBuffer window;
  for (std::uint64_t at = begin; end - at >= kLocal.size() && !log_.cancelled();) {
    window.resize(static_cast<std::size_t>(std::min(kSweep, end - at)));
    FLATBED_TRY(file_.read_at(at, window));
    const std::string_view text = as_text(window);
    for (std::size_t found = text.find(kLocal); found != text.npos;
         found = text.find(kLocal, found + 1))
      FLATBED_TRY(add_hidden(at + found, end));
    if (window.size() < kSweep) break;
    at += window.size() - (kLocal.size() - 1);
  }
  return {};
}

Result<void> ZipLister::add_hidden(std::uint64_t at, std::uint64_t end) {
  std::array<std::byte, zip::kLocalBytes> fixed;
  if (others_.size() >= kMaxHidden || !in_bounds(at, fixed.size(), end)) return {};
  FLATBED_TRY(file_.read_at(at, fixed));
  const zip::LocalFields local = zip::load_local(fixed.data());
  ZipView view;
  view.header_offset = at;
  view.data_offset = at + fixed.size() + local.name_nbytes + local.extra_nbytes;
  if (view.data_offset > end) return {};
  view.name.resize(local.name_nbytes);
  FLATBED_TRY(file_.read_at(at + fixed.size(), std::as_writable_bytes(std::span<char>(view.name))));
  view.flags = local.flags;
  view.method = local.method;
  view.crc = local.crc;
  view.stored_nbytes = local.stored_nbytes;
  view.nbytes = local.nbytes;
  const bool deferred = (local.flags & zip::kFlagDescriptor) != 0 && local.stored_nbytes == 0;
  if (deferred || local.stored_nbytes > end - view.data_offset) {
    view.stored_nbytes = end - view.data_offset;
    view.nbytes = view.stored_nbytes;
    view.crc = 0;
  }
  view.listed = false;
  log_.container(view.name, at, "an entry that the directory does not list");
  others_.push_back(std::move(view));
  if (others_.size() == kMaxHidden)
    log_.container("", at, "further local headers that disagree are not scanned");
  return {};
}

}  // namespace

Result<std::vector<ZipView>> list_zip(const ByteSource& file, ScanLog& log) {
  return ZipLister(file, log).list();
}

bool ends_like_zip(const ByteSource& file) {
  ScanLog unused;
  const Result<ZipDirectories> directories = find_directories(file, unused);
  return directories && !directories->found.empty();
}

}  // namespace flatbed::pth
