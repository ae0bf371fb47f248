#include "flatbed/scan.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/str_cat.hpp"
#include "checkpoint/sniff.hpp"
#include "io/file.hpp"
#include "io/guarded_source.hpp"
#include "scan/content_scan.hpp"
#include "scan/folder_list.hpp"
#include "scan/index_scan.hpp"
#include "scan/scan_log.hpp"

namespace flatbed {

namespace {

namespace fs = std::filesystem;
using Names = std::set<std::string>;

// The names in an index; nullopt for every other file, and for an index that cannot be read, which
// the scan of the file then says.
std::optional<Names> find_index_names(const File& file, const Result<Content>& content) {
  if (!content || *content != Content::json) return std::nullopt;
  Result<std::optional<Names>> names = pth::read_index_names(file);
  return names && *names && !(*names)->empty() ? *std::move(names) : std::nullopt;
}

class Scanner {
 public:
  explicit Scanner(const ScanOptions& options) : options_(options) {}

  Result<void> add_file(const ByteSource& file, const Result<Content>& content) {
    pth::ScanLog log(options_.cancel, file.size());
    Result<std::string> what = pth::scan_content(file, content, log);
    if (!what) return with_context(file.label(), std::move(what).error());
    if (log.cancelled()) return make_error(ErrorCode::cancelled, "interrupted while scanning");
    // Data that another program wrote meanwhile was not scanned.
    if (auto same = file.check_unchanged(); !same)
      return with_context(file.label(), std::move(same).error());
    add({.path = file.label(), .what = *std::move(what)}, log);
    return {};
  }

  // The files that an index names.
  Result<void> add_named(const fs::path& folder, const Names& names) {
    for (const std::string& name : names) {
      const fs::path path = folder / name;
      if (!pth::stays_inside(name)) {
        add_unscanned(path, "a file outside the folder of the index that names it");
        continue;
      }
      Result<File> file = File::open(path);
      if (!file && file.error().code == ErrorCode::file_not_found)
        return make_error(ErrorCode::shard_missing, path.native(),
                          ": the index names this file, but it does not exist");
      if (!file) return with_context(path.native(), std::move(file).error());
      FLATBED_TRY(add_file(*file, sniff(*file)));
    }
    return {};
  }

  // Everything in a folder, in the order of the paths. Each file is opened once, and no longer than
  // it is scanned.
  Result<void> add_folder(const fs::path& folder) {
    FLATBED_ASSIGN(const std::vector<FolderEntry> entries, list_folder(folder, options_.recursive));
    if (entries.empty())
      return make_error(ErrorCode::file_not_found, quoted(folder.native()), " is an empty folder");
    std::set<fs::path> there, named;
    for (const FolderEntry& entry : entries) {
      there.insert(entry.path.lexically_normal());
      FLATBED_TRY(add_entry(entry, named));
    }
    // What an index names may be in a folder below this one.
    for (const fs::path& path : named) {
      if (!there.contains(path)) FLATBED_TRY(add_path(path, nullptr));
    }
    return {};
  }

  ScanReport finish() {
    std::ranges::stable_sort(report_.findings, std::ranges::greater(), &ScanFinding::severity);
    keep_most();
    return std::move(report_);
  }

 private:
  void add(ScannedFile file, pth::ScanLog& log) {
    const auto number = static_cast<std::uint32_t>(report_.files.size());
    file.verdict = log.verdict();
    file.pickles = log.pickles();
    report_.verdict = std::max(report_.verdict, file.verdict);
    report_.findings_complete = report_.findings_complete && log.complete();
    report_.files.push_back(std::move(file));
    for (ScanFinding& finding : log.take()) {
      finding.file = number;
      report_.findings.push_back(std::move(finding));
    }
  }

  void add_unscanned(const fs::path& path, const std::string& why) {
    pth::ScanLog log;
    log.unknown(ScanKind::unseen, "", str_cat("not scanned: ", why));
    add({.path = path, .what = why, .scanned = false}, log);
  }

  Result<void> add_entry(const FolderEntry& entry, std::set<fs::path>& named) {
    if (entry.what.empty()) return add_path(entry.path, &named);
    add_unscanned(entry.path, entry.what);
    return {};
  }

  // One file of a folder. A fault of it is no fault of the others. `named` collects the files that
  // it names if it is an index.
  Result<void> add_path(const fs::path& path, std::set<fs::path>* named) {
    const Result<File> file = File::open(path);
    if (!file) {
      add_unscanned(path, file.error().message);
      return {};
    }
    const Result<Content> content = sniff(*file);
    if (const auto names = find_index_names(*file, content); names && named != nullptr) {
      add_index(path, *names, *named);
      return {};
    }
    const Result<void> added = add_file(*file, content);
    if (!added && added.error().code == ErrorCode::cancelled) return added;
    if (!added) add_unscanned(path, added.error().message);
    return {};
  }

  void add_index(const fs::path& path, const Names& names, std::set<fs::path>& named) {
    pth::ScanLog log;
    add({.path = path, .what = str_cat("an index of ", counted(names.size(), "file"))}, log);
    for (const std::string& name : names) {
      const fs::path file = (path.parent_path() / name).lexically_normal();
      if (pth::stays_inside(name)) {
        named.insert(file);
      } else {
        add_unscanned(file, "a file outside the folder of the index that names it");
      }
    }
  }

  // The limit on findings applies to a set as a whole, too.
  void keep_most() {
    std::array<std::size_t, 3> counts{};
    const std::size_t before = report_.findings.size();
    std::erase_if(report_.findings, [&](const ScanFinding& finding) {
      return ++counts[static_cast<std::size_t>(finding.severity)] > pth::kMaxFindings;
    });
    if (report_.findings.size() != before) report_.findings_complete = false;
  }

  const ScanOptions& options_;
  ScanReport report_;
};

}  // namespace

Result<ScanReport> scan(const fs::path& path, const ScanOptions& options) {
  Scanner scanner(options);
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    FLATBED_TRY(scanner.add_folder(path));
    return scanner.finish();
  }
  Result<File> file = File::open(path);
  if (!file) return with_context(path.native(), std::move(file).error());
  const Result<Content> content = sniff(*file);
  if (const auto names = find_index_names(*file, content)) {
    FLATBED_TRY(scanner.add_named(path.parent_path(), *names));
  } else {
    FLATBED_TRY(scanner.add_file(*file, content));
  }
  return scanner.finish();
}

Result<ScanReport> scan(const ByteSource& source, const ScanOptions& options) {
  // Borrowed: no reference to it outlives the scan.
  const std::shared_ptr<const ByteSource> borrowed(std::shared_ptr<const void>(), &source);
  FLATBED_ASSIGN(const std::shared_ptr<const ByteSource> guarded, GuardedSource::wrap(borrowed));
  Scanner scanner(options);
  FLATBED_TRY(scanner.add_file(*guarded, sniff(*guarded)));
  return scanner.finish();
}

}  // namespace flatbed
