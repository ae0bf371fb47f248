#include "scan/zip_scan.hpp"

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "archive/crc32.hpp"
#include "archive/zip_entry.hpp"
#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "io/name_index.hpp"
#include "scan/scan_bytes.hpp"
#include "scan/stream_scan.hpp"
#include "scan/zip_listing.hpp"

namespace flatbed::pth {

namespace {

constexpr std::uint64_t kHead = 4096;
// Limits the work: records may overlap, and deflated ones may hold a thousand times their size.
constexpr std::uint64_t kFreeBudget = 64 << 20;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
  return out;
}

// The part of a name after its last slash.
std::string_view base_name(std::string_view name) { return name.substr(name.rfind('/') + 1); }

bool is_pickle_name(std::string_view name) {
  const std::string base = lower(base_name(name));
  return base.ends_with(".pkl") || base.ends_with(".pickle") || base.ends_with(".debug_pkl");
}

// What identifies a record's bytes: their place, their number before and after inflating, and the
// method.
using Contents = std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, std::uint16_t>;

class ZipScan {
 public:
  ZipScan(const ByteSource& file, ScanLog& log, std::vector<ZipView> views)
      : file_(file), log_(log), views_(std::move(views)), budget_(file.size() * 2 + kFreeBudget) {}

  std::string scan() {
    check_names();
    check_folder();
    for (const ZipView& view : views_) {
      if (log_.cancelled()) break;
      check_kind(view);
      if (!view.name.ends_with('/')) scan_view(view);
    }
    return check_what();
  }

 private:
  void check_names();
  void check_folder();
  void check_kind(const ZipView& view);
  void scan_view(const ZipView& view);
  void check_crc(const ZipView& view, ScanBytes& bytes);
  std::string check_what();
  [[nodiscard]] std::optional<ScanBytes> open(const ZipView& view);
  [[nodiscard]] bool has(std::string_view record) const;

  const ByteSource& file_;
  ScanLog& log_;
  std::vector<ZipView> views_;
  std::string_view folder_;  // of the first entry, as in torch's own reader
  std::uint64_t budget_;     // bytes that may still be read
  std::set<Contents> scanned_;
};

// torch finds records without regard to case, and its versions disagree on which of two they take.
void ZipScan::check_names() {
  std::vector<std::string> folded;
  NameIndex index(views_.size());
  std::uint32_t pickles = 0;
  for (const ZipView& view : views_) {
    if (!view.listed) continue;
    folded.push_back(lower(view.name));
    const auto number = static_cast<std::uint32_t>(folded.size() - 1);
    if (index.insert(folded.back(), number, [&](std::uint32_t i) { return folded[i]; }))
      log_.container(view.name, view.header_offset, "another entry has the same name");
    if (view.name.find('\\') != view.name.npos || view.name.find('\0') != view.name.npos ||
        view.name.starts_with('/') || (view.name + "/").find("../") != view.name.npos)
      log_.container(view.name, view.header_offset, "readers disagree on the meaning of its name");
    pickles += lower(base_name(view.name)) == "data.pkl" ? 1 : 0;
  }
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

std::optional<ScanBytes> ZipScan::open(const ZipView& view) {
  if (!view.inside) return std::nullopt;
  if (view.method == zip::kDeflated)
    return std::optional<ScanBytes>(
        ScanBytes(file_, DeflatedRecord{view.data_offset, view.stored_nbytes, view.nbytes}));
  return std::optional<ScanBytes>(ScanBytes(file_, view.data_offset, view.stored_nbytes));
}

void ZipScan::scan_view(const ZipView& view) {
  std::optional<ScanBytes> bytes = open(view);
  if (!bytes) return;
  static_cast<void>(bytes->fetch(kHead));
  const bool complete = bytes->have().size() == bytes->size();
  const bool looks = looks_like_pickle(bytes->have(), complete);
  const bool called = is_pickle_name(view.name);
  if (!looks && !called && !bytes->trouble().empty())
    log_.container(view.name, view.header_offset,
                   str_cat("it cannot be scanned: ", bytes->trouble()));
  if (!looks && !called) return;
  // The same bytes under two names, or in the view of the local header.
  if (!scanned_.emplace(view.data_offset, view.stored_nbytes, view.nbytes, view.method).second)
    return;
  if (bytes->limit() > budget_) {
    log_.add({.severity = ScanVerdict::unknown,
              .kind = ScanKind::unseen,
              .record = view.name,
              .text = "too many bytes for the size of the file; it is not scanned"});
    return;
  }
  budget_ -= bytes->limit();
  if (!called)
    log_.add({.severity = ScanVerdict::unknown,
              .kind = ScanKind::hidden,
              .record = view.name,
              .text = "it begins like a pickle but does not have a pickle's name"});
  static_cast<void>(scan_record(*bytes, log_, {view.name, ScanIds::torch, 0}));
  check_crc(view, *bytes);
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
  const bool code = std::any_of(views_.begin(), views_.end(), [](const ZipView& view) {
    return view.name.find("/code/") != view.name.npos || view.name.starts_with("code/");
  });
  if (code || has("constants.pkl")) {
    say(ScanKind::torchscript, "a TorchScript archive: torch.jit.load runs the code in it");
    return "a TorchScript archive";
  }
  if (has(".data/extern_modules") || has("extern_modules")) {
    say(ScanKind::container, "a torch.package archive: importing from it runs the code in it");
    return "a torch.package archive";
  }
  if (has("data.pkl")) return "a zip of torch.save";
  say(ScanKind::container, "a zip that torch.save did not write (it has no data.pkl)");
  return "a zip";
}

}  // namespace

Result<std::string> scan_zip_file(const ByteSource& file, ScanLog& log) {
  FLATBED_ASSIGN(std::vector<ZipView> views, list_zip(file, log));
  return ZipScan(file, log, std::move(views)).scan();
}

}  // namespace flatbed::pth
