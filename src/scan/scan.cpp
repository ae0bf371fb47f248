#include "flatbed/scan.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/str_cat.hpp"
#include "checkpoint/folder_shards.hpp"
#include "checkpoint/sniff.hpp"
#include "io/file.hpp"
#include "io/file_error.hpp"
#include "io/guarded_source.hpp"
#include "scan/content_scan.hpp"
#include "scan/folder_list.hpp"
#include "scan/index_scan.hpp"
#include "scan/scan_log.hpp"

namespace flatbed {

namespace {

namespace fs = std::filesystem;
using Names = std::set<std::string>;

class Scanner {
 public:
  explicit Scanner(const ScanOptions& options) : options_(options) {}

  // With `names`, an index is plain and puts there what it names.
  Result<void> add_file(const ByteSource& file, Names* names) {
    pth::ScanLog log(options_.cancel, file.size());
    log.set_index_names(names);
    Result<std::string> what = pth::scan_content(file, sniff(file), log);
    if (!what) return in_file(file.label(), std::move(what).error());
    if (log.cancelled()) return make_error(ErrorCode::cancelled, "interrupted while scanning");
    // Data that another program wrote meanwhile was not scanned.
    if (auto same = file.check_unchanged(); !same)
      return in_file(file.label(), std::move(same).error());
    add({.path = file.label(), .what = *std::move(what)}, log);
    return {};
  }

  // One file, or those that it names if it is an index: then it has no row of its own, unless
  // something is wrong with it.
  Result<void> add_path_or_set(const fs::path& path) {
    Names names;
    Result<File> file = File::open(path);
    if (!file) return in_file(path.native(), std::move(file).error());
    FLATBED_TRY(add_file(*file, &names));
    if (names.empty()) return {};
    if (report_.findings.empty()) report_.files.clear();
    return add_named(path.parent_path(), names);
  }

  // The files that an index names. A fault of one is no fault of the others.
  Result<void> add_named(const fs::path& folder, const Names& names) {
    for (const std::string& name : names) {
      const fs::path path = folder / name;
      if (!pth::stays_inside(name)) {
        add_unscanned(path, "a file outside the folder of the index that names it");
        continue;
      }
      std::error_code error;
      if (!fs::exists(path, error) && !error)
        return make_error(ErrorCode::shard_missing, path.native(),
                          ": the index names this file, but it does not exist");
      FLATBED_TRY(add_path(path, nullptr));
    }
    return {};
  }

  // The same of a folder that is not local.
  Result<void> add_name_or_set(const SourceFolder& folder, const std::string& name) {
    Names names;
    FLATBED_ASSIGN(const std::shared_ptr<const ByteSource> file, open_in(folder, name));
    FLATBED_TRY(add_file(*file, &names));
    if (names.empty()) return {};
    if (report_.findings.empty()) report_.files.clear();
    std::set<fs::path> named;
    add_names(name, names, named);
    for (const fs::path& path : named) {
      const auto shard = open_in(folder, path.native());
      if (!shard && shard.error().code == ErrorCode::file_not_found)
        return make_error(ErrorCode::shard_missing, path.native(),
                          ": the index names this file, but it does not exist");
      FLATBED_TRY(add_opened(shard, fs::path(folder.label()) / path, path, nullptr));
    }
    return {};
  }

  // Everything in a folder that is not local, in the order of the names.
  Result<void> add_folder(const SourceFolder& folder) {
    const fs::path label(folder.label());
    FLATBED_ASSIGN(std::vector<std::string> names, folder.names());
    FLATBED_ASSIGN(std::vector<std::string> below, folder.folders());
    if (names.empty() && below.empty())
      return make_error(ErrorCode::file_not_found, quoted(label.native()), " is an empty folder");
    std::ranges::sort(names);
    std::ranges::sort(below);
    std::set<fs::path> there, named;
    for (const std::string& name : names) {
      there.insert(fs::path(name).lexically_normal());
      FLATBED_TRY(add_opened(open_in(folder, name), label / name, name, &named));
    }
    for (const fs::path& path : named) {
      if (there.contains(path)) continue;
      FLATBED_TRY(add_opened(open_in(folder, path.native()), label / path, path, nullptr));
    }
    const std::string advice = options_.recursive ? "; only local ones are followed" : "";
    for (const std::string& name : below)
      add_unscanned(label / name, (name.empty() ? "a folder without a name" : "a folder") + advice);
    if (!folder.lists_all())
      add_unscanned(label, "other files that may be there; the server does not list the folder");
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
    return std::move(report_);
  }

 private:
  // The limits on findings apply to a set or folder as a whole, too.
  void add(ScannedFile file, pth::ScanLog& log) {
    const auto number = static_cast<std::uint32_t>(report_.files.size());
    file.verdict = log.verdict();
    file.pickles = log.pickles();
    report_.verdict = std::max(report_.verdict, file.verdict);
    report_.findings_complete = report_.findings_complete && log.complete();
    report_.files.push_back(std::move(file));
    for (ScanFinding& finding : log.take()) {
      std::size_t& count = counts_[static_cast<std::size_t>(finding.severity)];
      std::size_t& nbytes = nbytes_[static_cast<std::size_t>(finding.severity)];
      if (count == pth::kMaxFindings || nbytes > pth::kMaxFindingBytes) {
        report_.findings_complete = false;
        continue;
      }
      ++count;
      nbytes += finding.record.size() + finding.module.size() + finding.qualname.size() +
                finding.text.size();
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
    Result<File> file = File::open(path);
    if (!file) return add_opened(std::move(file).error(), path, path, named);
    const std::shared_ptr<const ByteSource> source = std::make_shared<File>(*std::move(file));
    return add_opened(source, path, path, named);
  }

  // The same of a file that is `name` in its folder, once it was tried to open it.
  Result<void> add_opened(const Result<std::shared_ptr<const ByteSource>>& file,
                          const fs::path& path, const fs::path& name, std::set<fs::path>* named) {
    Names names;
    const Result<void> added =
        file ? add_file(**file, named == nullptr ? nullptr : &names) : Result<void>(file.error());
    if (!added && added.error().code == ErrorCode::cancelled) return added;
    if (!added) add_unscanned(path, added.error().message);
    if (named != nullptr) add_names(name, names, *named);
    return {};
  }

  // What an index names, to be scanned after everything in the folder.
  void add_names(const fs::path& path, const Names& names, std::set<fs::path>& named) {
    for (const std::string& name : names) {
      const fs::path file = (path.parent_path() / name).lexically_normal();
      if (pth::stays_inside(name)) {
        named.insert(file);
      } else {
        add_unscanned(file, "a file outside the folder of the index that names it");
      }
    }
  }

  const ScanOptions& options_;
  std::array<std::size_t, 3> counts_{};  // of the findings, by severity
  std::array<std::size_t, 3> nbytes_{};
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
  FLATBED_TRY(scanner.add_path_or_set(path));
  return scanner.finish();
}

Result<ScanReport> scan(const SourceFolder& folder, std::string_view name,
                        const ScanOptions& options) {
  Scanner scanner(options);
  if (!name.empty()) {
    FLATBED_TRY(scanner.add_name_or_set(folder, std::string(name)));
    return scanner.finish();
  }
  FLATBED_TRY(scanner.add_folder(folder));
  return scanner.finish();
}

Result<ScanReport> scan(const ByteSource& source, const ScanOptions& options) {
  // Borrowed: no reference to it outlives the scan.
  const std::shared_ptr<const ByteSource> borrowed(std::shared_ptr<const void>(), &source);
  FLATBED_ASSIGN(const std::shared_ptr<const ByteSource> guarded, GuardedSource::wrap(borrowed));
  Scanner scanner(options);
  FLATBED_TRY(scanner.add_file(*guarded, nullptr));
  return scanner.finish();
}

}  // namespace flatbed
