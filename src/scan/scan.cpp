#include "flatbed/scan.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "checkpoint/open_set.hpp"
#include "checkpoint/sniff.hpp"
#include "io/guarded_source.hpp"
#include "safetensors/header.hpp"
#include "scan/scan_log.hpp"
#include "scan/stream_scan.hpp"
#include "scan/zip_listing.hpp"
#include "scan/zip_scan.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kHead = 4096;

void add_unknown(pth::ScanLog& log, ScanKind kind, std::string text) {
  log.add({.severity = ScanVerdict::unknown, .kind = kind, .text = std::move(text)});
}

// Names the kind of a file without a pickle, from its beginning.
std::string scan_other(const ByteSource& file, const Result<Content>& content, pth::ScanLog& log) {
  if (!content) {
    add_unknown(log, ScanKind::unseen, content.error().message);
    return "unknown file type";
  }
  if (*content == Content::json) return "a JSON text";
  if (const auto header = safetensors::read_header(file); !header) {
    add_unknown(log, ScanKind::malformed,
                str_cat("an invalid safetensors file: ", header.error().message));
  }
  return "a safetensors file";
}

// A loader that takes the file for a pickle runs its first opcodes before it stops. So a file of
// another kind, or one that breaks after its first bytes, may still be a pickle.
void scan_beginning(const ByteSource& file, pth::ScanLog& log) {
  pth::ScanLog found;
  pth::ScanBytes bytes(file, 0, file.size());
  pth::PickleScan pickle(bytes, found, "", pth::ScanIds::torch);
  static_cast<void>(pickle.run(0));
  bool any = false;
  for (ScanFinding& finding : found.take()) {
    if (finding.module.empty() && finding.kind != ScanKind::computed) continue;
    any = true;
    log.add(std::move(finding));
  }
  if (!any) return;
  log.count_pickle();
  add_unknown(log, ScanKind::hidden, "a pickle loader runs its first bytes before it stops");
}

// Scans the file in each way in which a loader could read it. `content` is the result of sniff().
// Returns what the file is.
Result<std::string> scan_content(const ByteSource& file, const Result<Content>& content,
                                 pth::ScanLog& log) {
  std::array<std::byte, kHead> buffer;
  const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), kHead));
  const std::span<const std::byte> head = std::span(buffer).first(size);
  FLATBED_TRY(file.read_at(0, std::span(buffer).first(size)));
  // A failure to read is an error, not an unknown format.
  if (!content && static_cast<int>(content.error().code) < 10) return content.error();
  // torch.load decides between zip and other formats by these bytes alone.
  if (as_text(head).starts_with(std::string_view("PK\x03\x04", 4)))
    return pth::scan_zip_file(file, log);

  const bool tar = pth::is_tar_block(head);
  std::string what;
  if (tar) what = pth::scan_tar_file(file, log);
  const bool pickle =
      (content && *content == Content::pickle) || pth::looks_like_pickle(head, size == file.size());
  if (pickle && tar) add_unknown(log, ScanKind::container, "a tar that is also a pickle");
  if (pickle) {
    what = pth::scan_pickle_file(file, log);
  } else {
    scan_beginning(file, log);
  }
  if (!tar && !pickle) what = scan_other(file, content, log);
  if (pth::ends_like_zip(file)) {
    add_unknown(log, ScanKind::container, "it ends like a zip but begins like something else");
    FLATBED_ASSIGN(const std::string zip, pth::scan_zip_file(file, log));
    what = str_cat(what, " that is ", zip, " as well");
  }
  return what;
}

// Files that belong to a checkpoint by their names; others of a directory count when they are a
// kind that a loader would take.
bool is_model_name(std::string_view name) {
  constexpr std::array<std::string_view, 11> kEndings{".bin",    ".pt",          ".pth",  ".ckpt",
                                                      ".pkl",    ".pickle",      ".tar",  ".joblib",
                                                      ".distcp", ".safetensors", ".model"};
  return std::ranges::any_of(kEndings, [&](std::string_view e) { return name.ends_with(e); });
}

bool is_model(const File& file, const Result<Content>& content) {
  const bool named = is_model_name(file.label());
  const bool known =
      content && *content != Content::json && (*content != Content::safetensors || named);
  return known || named || file.path().filename() == ".metadata";
}

// The regular files of a directory, in the order of their names.
Result<std::vector<std::filesystem::path>> list_files(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_regular_file(ignored)) paths.push_back(entry->path());
  }
  if (error)
    return make_error(ErrorCode::io_error, quoted(directory.native()), ": ", error.message());
  std::ranges::sort(paths);
  return paths;
}

class Scanner {
 public:
  explicit Scanner(const ScanOptions& options) : options_(options) {}

  Result<void> add_file(const ByteSource& file, const Result<Content>& content) {
    pth::ScanLog log(options_.cancel);
    Result<std::string> what = scan_content(file, content, log);
    if (!what) return with_context(file.label(), std::move(what).error());
    if (log.cancelled()) return make_error(ErrorCode::cancelled, "interrupted while scanning");
    // Data that another program wrote meanwhile was not scanned.
    if (auto same = file.check_unchanged(); !same)
      return with_context(file.label(), std::move(same).error());
    const auto number = static_cast<std::uint32_t>(report_.files.size());
    report_.files.push_back({file.label(), log.verdict(), *std::move(what), log.pickles()});
    report_.verdict = std::max(report_.verdict, log.verdict());
    report_.findings_complete = report_.findings_complete && log.complete();
    for (ScanFinding& finding : log.take()) {
      finding.file = number;
      report_.findings.push_back(std::move(finding));
    }
    return {};
  }

  // The shards of a set.
  Result<void> add_shards(const std::vector<std::filesystem::path>& paths) {
    for (const std::filesystem::path& path : paths) {
      Result<File> file = File::open(path);
      if (!file && file.error().code == ErrorCode::file_not_found)
        return make_error(ErrorCode::shard_missing, path.native(),
                          ": the index names this file, but it does not exist");
      if (!file) return with_context(path.native(), std::move(file).error());
      FLATBED_TRY(add_file(*file, sniff(*file)));
    }
    return {};
  }

  // The files of a directory that a loader could be given, in the order of their names. Each is
  // opened once, and no longer than it is scanned.
  Result<void> add_directory(const std::filesystem::path& directory) {
    FLATBED_ASSIGN(const std::vector<std::filesystem::path> paths, list_files(directory));
    for (const std::filesystem::path& path : paths) {
      FLATBED_ASSIGN(const File file, File::open(path));
      const Result<Content> content = sniff(file);
      if (is_model(file, content)) FLATBED_TRY(add_file(file, content));
    }
    if (!report_.files.empty()) return {};
    return make_error(ErrorCode::file_not_found, quoted(directory.native()),
                      " holds no file of a checkpoint");
  }

  ScanReport finish() {
    std::ranges::stable_sort(report_.findings, std::ranges::greater(), &ScanFinding::severity);
    keep_most();
    return std::move(report_);
  }

 private:
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

// Whether a JSON text is an index, which loaders follow to its files.
bool is_index(const ByteSource& file, const Result<Content>& content) {
  return content && *content == Content::json && file.label().ends_with(".index.json");
}

}  // namespace

Result<ScanReport> scan(const std::filesystem::path& path, const ScanOptions& options) {
  Scanner scanner(options);
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    FLATBED_TRY(scanner.add_directory(path));
    return scanner.finish();
  }
  Result<File> file = File::open(path);
  if (!file) return with_context(path.native(), std::move(file).error());
  const Result<Content> content = sniff(*file);
  if (is_index(*file, content)) {
    Result<std::vector<std::filesystem::path>> shards = list_shards(*file);
    if (!shards) return with_context(path.native(), std::move(shards).error());
    FLATBED_TRY(scanner.add_shards(*shards));
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
