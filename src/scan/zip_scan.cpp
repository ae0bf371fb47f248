#include "scan/zip_scan.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "archive/crc32.hpp"
#include "archive/zip_entry.hpp"
#include "base/ascii.hpp"
#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "io/memory_source.hpp"
#include "io/name_index.hpp"
#include "scan/content_scan.hpp"
#include "scan/file_part.hpp"
#include "scan/npy_scan.hpp"
#include "scan/plain_kinds.hpp"
#include "scan/scan_bytes.hpp"
#include "scan/stream_scan.hpp"
#include "scan/zip_listing.hpp"

namespace flatbed::pth {

namespace {

constexpr std::uint64_t kHead = 4096;

// The part of a name after its last slash.
std::string_view base_name(std::string_view name) { return name.substr(name.rfind('/') + 1); }

// Code of TorchScript.
bool is_script(std::string_view name) {
  return name.find("/code/") != name.npos || name.starts_with("code/");
}

bool is_pickle_name(std::string_view name) {
  return has_ending(name, ".pkl") || has_ending(name, ".pickle") || has_ending(name, ".debug_pkl");
}

// What identifies a record's bytes: their place, their number before and after inflating, and the
// method.
using Contents = std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, std::uint16_t>;

class ZipScan {
 public:
  ZipScan(const ByteSource& file, ScanLog& log, std::vector<ZipView> views, unsigned depth)
      : file_(file), log_(log), views_(std::move(views)), depth_(depth) {}

  std::string scan() {
    check_names();
    arrays_ = !views_.empty() && std::ranges::all_of(views_, [](const ZipView& view) {
      return has_ending(view.name, ".npy");
    });
    if (!arrays_) check_folder();
    // Pickles first: they say which of the other records are storages.
    for (const ZipView& view : views_) {
      if (log_.cancelled()) break;
      check_kind(view);
      if (is_pickle_name(view.name)) scan_pickle(view);
    }
    for (const ZipView& view : views_) {
      if (log_.cancelled()) break;
      const bool folder = view.name.ends_with('/') && view.stored_nbytes == 0 && view.nbytes == 0;
      if (is_pickle_name(view.name) || folder) continue;
      const bool storage = view.listed && is_storage(view.name);
      if (!storage || begins_like_npy(view)) look_into(view);
    }
    check_code();
    return check_what();
  }

 private:
  void check_names();
  void check_folder();
  void check_kind(const ZipView& view);
  void check_code();
  [[nodiscard]] bool begins_like_npy(const ZipView& view) const;
  void scan_pickle(const ZipView& view);
  void look_into(const ZipView& view);
  void scan_inner(const ZipView& view, ScanBytes& bytes);
  [[nodiscard]] bool take_work(const ZipView& view, std::uint64_t nbytes);
  void note_storages(std::string_view pickle, const std::vector<ScanText>& keys,
                     const ScanBytes& bytes);
  [[nodiscard]] bool is_storage(const std::string& name) const;
  void check_crc(const ZipView& view, ScanBytes& bytes);
  std::string check_what();
  [[nodiscard]] std::optional<ScanBytes> open(const ZipView& view) const;
  [[nodiscard]] bool has(std::string_view record) const;

  const ByteSource& file_;
  ScanLog& log_;
  std::vector<ZipView> views_;
  unsigned depth_;
  bool arrays_ = false;      // nothing but .npy files: one of numpy.savez
  std::string_view folder_;  // of the first entry, as in torch's own reader
  NameIndex names_;          // of the listed views, for is_storage_
  std::vector<bool> is_storage_;
  std::set<Contents> scanned_;
};

// torch finds records without regard to case, and its versions disagree on which of two they take.
void ZipScan::check_names() {
  std::vector<std::string> folded;
  NameIndex index(views_.size());
  std::uint32_t pickles = 0;
  for (const ZipView& view : views_) {
    if (!view.listed) continue;
    folded.push_back(lower_case(view.name));
    const auto number = static_cast<std::uint32_t>(folded.size() - 1);
    const auto view_number = static_cast<std::uint32_t>(&view - views_.data());
    names_.insert(view.name, view_number,
                  [&](std::uint32_t i) { return std::string_view(views_[i].name); });
    if (index.insert(folded.back(), number, [&](std::uint32_t i) { return folded[i]; }))
      log_.container(view.name, view.header_offset, "another entry has the same name");
    if (view.name.find('\\') != view.name.npos || view.name.find('\0') != view.name.npos ||
        view.name.starts_with('/') || (view.name + "/").find("../") != view.name.npos)
      log_.container(view.name, view.header_offset, "readers disagree on the meaning of its name");
    pickles += lower_case(base_name(view.name)) == "data.pkl" ? 1 : 0;
  }
  is_storage_.resize(views_.size());
  if (pickles > 1) log_.container("", 0, str_cat(pickles, " records are called data.pkl"));
}

void ZipScan::check_folder() {
  if (views_.empty()) return;
  const std::string_view first = views_.front().name;
  folder_ = first.substr(0, std::min(first.find('/'), first.size()));
  for (const ZipView& view : views_) {
    if (!view.listed || view.name.starts_with("__MACOSX/")) continue;
    if (view.name.size() > folder_.size() && view.name.starts_with(folder_) &&
        view.name[folder_.size()] == '/')
      continue;
    log_.container(view.name, view.header_offset,
                   str_cat("it is outside the folder ", quoted(folder_), " of the first entry"));
  }
}

void ZipScan::check_kind(const ZipView& view) {
  if (view.method != zip::kStored && view.method != zip::kDeflated)
    log_.container(
        view.name, view.header_offset,
        str_cat("method ", view.method, ", which other readers support, is not scanned"));
  const unsigned allowed = zip::kFlagDescriptor | zip::kFlagUtf8 |
                           (view.method == zip::kDeflated ? zip::kFlagsDeflateLevel : unsigned{0});
  if ((view.flags & ~allowed) != 0)
    log_.container(
        view.name, view.header_offset,
        str_cat("flags 0x", hex(view.flags), ", at which some readers stop and others do not"));
  if (view.method == zip::kStored && view.nbytes != view.stored_nbytes)
    log_.container(view.name, view.header_offset, "it is stored but has two different sizes");
}

std::optional<ScanBytes> ZipScan::open(const ZipView& view) const {
  if (!view.inside) return std::nullopt;
  if (view.method == zip::kDeflated)
    return std::optional<ScanBytes>(
        ScanBytes(file_, DeflatedRecord{view.data_offset, view.stored_nbytes, view.nbytes}));
  return std::optional<ScanBytes>(ScanBytes(file_, view.data_offset, view.stored_nbytes));
}

// Takes bytes of the record from those that may be looked at. False if there are not enough left,
// or if the same bytes were scanned before: under two names, or in the view of the local header.
bool ZipScan::take_work(const ZipView& view, std::uint64_t nbytes) {
  if (!scanned_.emplace(view.data_offset, view.stored_nbytes, view.nbytes, view.method).second)
    return false;
  if (log_.take_work(nbytes)) return true;
  log_.unknown(ScanKind::unseen, view.name, std::string(kOutOfWork));
  return false;
}

// numpy.load() takes any record for an array by its first bytes, a storage too.
bool ZipScan::begins_like_npy(const ZipView& view) const {
  std::array<std::byte, 6> head{};
  if (!view.inside || view.stored_nbytes == 0) return false;
  if (view.method != zip::kDeflated)
    return view.stored_nbytes >= head.size() && file_.read_at(view.data_offset, head) &&
           is_npy(head);
  std::optional<ScanBytes> bytes = open(view);
  return bytes && bytes->fetch(head.size()) && is_npy(bytes->have());
}

// Code among the records, one finding for each kind. That of TorchScript has a finding of its own.
void ZipScan::check_code() {
  std::map<std::string_view, ScanFinding> found;
  for (const ZipView& view : views_) {
    const auto kind = is_script(view.name) ? std::nullopt : code_kind(view.name);
    if (!kind) continue;
    const auto [row, fresh] = found.try_emplace(*kind);
    ++row->second.count;
    if (!fresh) continue;
    row->second = {.severity = ScanVerdict::unknown,
                   .kind = ScanKind::code,
                   .record = view.name,
                   .text = str_cat(*kind, ", which is not analyzed")};
  }
  for (auto& [kind, finding] : found) log_.add(std::move(finding));
}

void ZipScan::scan_pickle(const ZipView& view) {
  std::optional<ScanBytes> bytes = open(view);
  if (!bytes || !take_work(view, bytes->limit())) return;
  RecordScan scan;
  scan.record = view.name;
  const RecordEnd end = scan_record(*bytes, log_, scan);
  if (view.listed) note_storages(view.name, end.storages, *bytes);
  check_crc(view, *bytes);
}

// A pickle <folder>/NAME.pkl uses the records <folder>/NAME/KEY, and in an archive of torch.package
// <archive>/.data/KEY.storage. Loaders read numbers from them and nothing else.
void ZipScan::note_storages(std::string_view pickle, const std::vector<ScanText>& keys,
                            const ScanBytes& bytes) {
  const std::string_view stem = pickle.substr(0, pickle.rfind('.'));
  const auto name_of = [&](std::uint32_t i) { return std::string_view(views_[i].name); };
  for (const ScanText& text : keys) {
    const std::optional<std::string> key = decode_text(bytes.have(), text);
    if (!key) continue;
    for (const std::string& name :
         {str_cat(stem, "/", *key), str_cat(folder_, "/.data/", *key, ".storage")}) {
      if (const auto number = names_.find(name, name_of)) is_storage_[*number] = true;
    }
  }
}

bool ZipScan::is_storage(const std::string& name) const {
  const auto number =
      names_.find(name, [&](std::uint32_t i) { return std::string_view(views_[i].name); });
  return number && is_storage_[*number];
}

// A record that no pickle uses and that has no pickle's name.
void ZipScan::look_into(const ZipView& view) {
  std::optional<ScanBytes> bytes = open(view);
  if (!bytes) return;
  static_cast<void>(bytes->fetch(kHead));
  RecordScan scan;
  scan.record = view.name;
  arrays_ = arrays_ && is_npy(bytes->have());
  if (is_npy(bytes->have())) {
    if (!take_work(view, bytes->have().size())) return;
    static_cast<void>(scan_npy(*bytes, log_, scan));
    return;
  }
  if (!inner_file_kind(bytes->have()).empty()) return scan_inner(view, *bytes);
  const bool complete = bytes->have().size() == bytes->size();
  if (!looks_like_pickle(bytes->have(), complete)) {
    if (!bytes->trouble().empty())
      log_.container(view.name, view.header_offset,
                     str_cat("it cannot be scanned: ", bytes->trouble()));
    return;
  }
  if (!take_work(view, bytes->limit())) return;
  log_.unknown(ScanKind::hidden, view.name,
               "it begins like a pickle but does not have a pickle's name");
  // Here numbers are more likely than a pickle: an error ends it, as it ends every unpickler.
  scan.errors = ScanErrors::stop;
  static_cast<void>(scan_record(*bytes, log_, scan));
  check_crc(view, *bytes);
}

// An archive or a compressed file in the zip.
void ZipScan::scan_inner(const ZipView& view, ScanBytes& bytes) {
  if (!take_work(view, bytes.limit())) return;
  if (view.method == zip::kStored) {
    const FilePart part(file_, view.data_offset, view.stored_nbytes);
    return scan_inner_file(part, view.name, log_, depth_);
  }
  while (!log_.cancelled() && bytes.fetch(bytes.size())) {
  }
  if (bytes.have().size() < bytes.size())
    log_.unknown(ScanKind::unseen, view.name,
                 str_cat("it is not scanned to its end: ", bytes.trouble()));
  const MemorySource contents(bytes.have(), view.name);
  scan_inner_file(contents, view.name, log_, depth_);
}

// torch checks no CRC; other readers stop at a wrong one.
void ZipScan::check_crc(const ZipView& view, ScanBytes& bytes) {
  while (bytes.limit() == bytes.size() && bytes.fetch(bytes.size())) {
  }
  if (bytes.have().size() != bytes.size() || !view.listed) return;
  const std::uint32_t crc = crc32_of(bytes.have());
  if (crc == view.crc) return;
  log_.container(view.name, view.header_offset,
                 str_cat("its CRC is 0x", hex(crc), ", the directory states 0x", hex(view.crc),
                         "; other scanners stop here, torch does not"));
}

bool ZipScan::has(std::string_view record) const {
  return std::any_of(views_.begin(), views_.end(), [&](const ZipView& view) {
    const std::string_view name = view.name;
    return name == record || (name.starts_with(folder_) && name.size() > folder_.size() &&
                              name.substr(folder_.size() + 1) == record);
  });
}

std::string ZipScan::check_what() {
  const auto say = [&](ScanKind kind, std::string text) {
    log_.add({.severity = ScanVerdict::unknown, .kind = kind, .text = std::move(text)});
  };
  const bool code = std::any_of(views_.begin(), views_.end(),
                                [](const ZipView& view) { return is_script(view.name); });
  if (code || has("constants.pkl")) {
    say(ScanKind::torchscript, "a TorchScript archive: torch.jit.load runs the code in it");
    return "a TorchScript archive";
  }
  if (has(".data/extern_modules") || has("extern_modules")) {
    say(ScanKind::container, "a torch.package archive: importing from it runs the code in it");
    return "a torch.package archive";
  }
  if (has("data.pkl")) return "a zip of torch.save";
  if (arrays_) return "a zip of NumPy arrays";
  say(ScanKind::container, "a zip that torch.save did not write (it has no data.pkl)");
  return "a zip";
}

}  // namespace

Result<std::string> scan_zip_file(const ByteSource& file, ScanLog& log, unsigned depth) {
  FLATBED_ASSIGN(std::vector<ZipView> views, list_zip(file, log));
  return ZipScan(file, log, std::move(views), depth).scan();
}

}  // namespace flatbed::pth
