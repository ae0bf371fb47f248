#include "series/series_folder.hpp"

#include <algorithm>
#include <cerrno>
#include <map>
#include <span>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>

#include "base/str_cat.hpp"
#include "io/file.hpp"
#include "io/set_files.hpp"
#include "io/system_error.hpp"
#include "safetensors/seal.hpp"
#include "series/series_head.hpp"

namespace flatbed {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kExtension = ".safetensors";
constexpr std::size_t kMaxEntries = 1 << 20;
constexpr int kMaxRounds = 8;

// What is in a folder, without what never counts: links, special files, names that begin with a
// dot.
struct Names {
  std::vector<std::string> files;  // sorted
  std::vector<std::string> folders;
};

Result<Names> read_names(const fs::path& folder) {
  Names names;
  std::error_code error;
  std::size_t count = 0;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (++count > kMaxEntries) {
      return make_error(ErrorCode::limit_exceeded, quoted(folder.native()), ": has more than ",
                        kMaxEntries, " entries");
    }
    std::string name = entry->path().filename().native();
    if (name.starts_with('.')) continue;
    // Those of which this cannot be found out are opened, which says why.
    std::error_code unknown;
    if (entry->is_symlink(unknown)) continue;
    const bool folder_here = entry->is_directory(unknown);
    const bool file_here = entry->is_regular_file(unknown);
    if (file_here || unknown) {
      names.files.push_back(std::move(name));
    } else if (folder_here) {
      names.folders.push_back(std::move(name));
    }
  }
  if (error.value() == ENOTDIR)
    return make_error(ErrorCode::not_a_regular_file, quoted(folder.native()), ": is not a folder");
  if (error) return system_error(error.value(), quoted(folder.native()));
  std::ranges::sort(names.files);
  std::ranges::sort(names.folders);
  return names;
}

// Whether the operating system is the cause, and not the contents of a file.
bool is_of_system(ErrorCode code) noexcept { return code < ErrorCode::invalid_argument; }

// Where a checkpoint lies, and which of its files states what it is.
struct Candidate {
  fs::path path;
  fs::path file;
  std::uint64_t nbytes = 0;  // of a set; a file's is known once it is open
  bool is_set = false;
};

// The set in a folder, if it holds one. Its index is not read: the first of the shards speaks for
// it, and open_entry() finds out whether it is of the set.
Result<std::optional<Candidate>> look_for_set(const fs::path& folder) {
  FLATBED_ASSIGN(const Names names, read_names(folder));
  const bool has_index = std::ranges::binary_search(names.files, kSetIndexName);
  Candidate set{folder, {}, 0, true};
  for (const std::string& name : names.files) {
    if (!is_set_file_name(name)) continue;
    std::error_code ignored;
    const std::uintmax_t nbytes = fs::file_size(folder / name, ignored);
    if (!ignored) set.nbytes += nbytes;
    const bool speaks =
        has_index ? name != kSetFileName && name != kSetIndexName : name == kSetFileName;
    if (speaks && set.file.empty()) set.file = folder / name;
  }
  if (set.file.empty()) return std::optional<Candidate>();
  return std::optional(std::move(set));
}

// What a file says of itself.
struct Stated {
  SeriesHead head;
  std::uint64_t nbytes = 0;
};

// Of a file whose first bytes do not say it. nullopt: it is a sound file that is of no series.
Result<std::optional<SeriesHead>> read_whole_header(const fs::path& path) {
  FLATBED_ASSIGN(const Checkpoint file, Checkpoint::open(path, {.follow_links = false}));
  if (file.seal() == SealState::newer) return std::optional<SeriesHead>();  // S8
  SeriesHead head;
  bool found = false;
  for (const auto& [key, value] : file.metadata()) {
    if (key == "flatbed") head.seal = value;
    if (key != safetensors::kSeriesKey) continue;
    head.statement = value;
    found = true;
  }
  head.content = file.files().front().content;
  return found ? std::optional(std::move(head)) : std::nullopt;
}

Result<std::optional<Stated>> read_stated(const fs::path& path) {
  FLATBED_ASSIGN(const File file, File::open(path, {.follow_links = false}));
  char bytes[kSeriesHeadNbytes];
  const auto nbytes = static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), sizeof bytes));
  FLATBED_TRY(file.read_at(0, std::as_writable_bytes(std::span(bytes).first(nbytes))));
  std::optional<SeriesHead> head = read_series_head({bytes, nbytes});
  if (!head) {
    FLATBED_ASSIGN(head, read_whole_header(path));
  }
  if (!head) return std::optional<Stated>();
  return std::optional(Stated{*std::move(head), file.size()});
}

Result<std::optional<FoundEntry>> read_candidate(const Candidate& candidate) {
  FLATBED_ASSIGN(std::optional<Stated> stated, read_stated(candidate.file));
  if (!stated) return std::optional<FoundEntry>();
  Result<Statement> statement = parse_statement(stated->head.statement);
  if (!statement)
    return with_context(quoted(candidate.file.native()), std::move(statement).error());
  FoundEntry found{{}, *std::move(statement), std::move(stated->head.seal), true, {}};
  SeriesEntry& entry = found.entry;
  entry.path = candidate.path;
  entry.sequence = found.statement.sequence;
  entry.step = found.statement.step;
  entry.score = found.statement.score;
  entry.epoch = found.statement.epoch;
  entry.parent = found.statement.parent.value_or("");
  entry.content = std::move(stated->head.content);
  entry.nbytes = candidate.is_set ? candidate.nbytes : stated->nbytes;
  entry.saved_at = found.statement.saved_at;
  entry.is_set = candidate.is_set;
  return std::optional(std::move(found));
}

class Finder {
 public:
  explicit Finder(const fs::path& folder) : folder_(folder) {}

  // False: something vanished meanwhile.
  Result<bool> run() {
    FLATBED_ASSIGN(const Names names, read_names(folder_));
    for (const std::string& name : names.files) {
      if (!name.ends_with(kExtension)) continue;
      const fs::path path = folder_ / name;
      FLATBED_TRY(add({path, path}));
    }
    for (const std::string& name : names.folders) {
      if (name == kAbandonedName) continue;
      Result<std::optional<Candidate>> set = look_for_set(folder_ / name);
      if (!set) {
        FLATBED_TRY(note(std::move(set).error()));
      } else if (*set) {
        FLATBED_TRY(add(**set));
      }
    }
    return !vanished_;
  }

  FoundSeries finish() {
    sort();
    join_copies();
    sort();  // another name may stand for one that has several
    note_equal_sequences();
    find_metric();
    return std::move(found_);
  }

 private:
  Result<void> add(const Candidate& candidate) {
    Result<std::optional<FoundEntry>> read = read_candidate(candidate);
    if (!read) return note(std::move(read).error());
    if (*read) found_.entries.push_back(**std::move(read));
    return {};
  }

  // A damaged file is no error of the series; that the process has no descriptors left is.
  Result<void> note(Error error) {
    if (error.code == ErrorCode::resource_exhausted) return error;
    if (error.code == ErrorCode::file_not_found) {
      vanished_ = true;
    } else {
      found_.notes.push_back(str_cat("skipped ", error.message));
      if (is_of_system(error.code)) found_.unread.push_back(std::move(error));
    }
    return {};
  }

  void sort() {
    std::ranges::sort(found_.entries, {}, [](const FoundEntry& found) {
      return std::tie(found.entry.sequence, found.entry.path.native());
    });
  }

  // Equal seals mean equal headers, and so equal bytes, unless one was damaged since. Only where
  // there are copies, the headers are read to find one that is whole.
  void join_copies() {
    std::vector<FoundEntry> kept;
    std::map<std::string, std::size_t> seals;  // of those with the last sequence number
    for (FoundEntry& found : found_.entries) {
      if (!kept.empty() && kept.back().entry.sequence != found.entry.sequence) seals.clear();
      const auto [same, is_new] = seals.emplace(found.seal, kept.size());
      if (is_new) {
        kept.push_back(std::move(found));
        continue;
      }
      FoundEntry& standing = kept[same->second];
      if (!Series::open_entry(standing.entry) && Series::open_entry(found.entry))
        std::swap(standing.entry, found.entry);
      standing.copies.push_back(std::move(found.entry.path));
    }
    found_.entries = std::move(kept);
  }

  void note_equal_sequences() {
    for (std::size_t i = 1; i < found_.entries.size(); ++i) {
      const SeriesEntry& one = found_.entries[i - 1].entry;
      const SeriesEntry& other = found_.entries[i].entry;
      if (one.sequence != other.sequence) continue;
      found_.notes.push_back(
          str_cat(quoted(one.path.native()), " and ", quoted(other.path.native()),
                  ": are different and both have the sequence number ", one.sequence));
    }
  }

  void find_metric() {
    for (FoundEntry& found : found_.entries) {
      const Statement& statement = found.statement;
      if (!statement.metric) continue;
      if (!found_.metric) {
        found_.metric = statement.metric;
        found_.mode = statement.mode;
      }
      found.same_metric = statement.metric == found_.metric && statement.mode == found_.mode;
      if (found.same_metric) continue;
      found_.notes.push_back(str_cat(quoted(found.entry.path.native()), ": has the metric ",
                                     quoted(std::string_view(*statement.metric)), " (",
                                     name(statement.mode), "), the series has ",
                                     quoted(std::string_view(*found_.metric)), " (",
                                     name(found_.mode), "); it is never the best"));
    }
  }

  const fs::path& folder_;
  FoundSeries found_;
  bool vanished_ = false;
};

}  // namespace

// A folder in which names come and go while it is read may show neither an old checkpoint nor the
// new one that replaced it, so it is read again.
Result<FoundSeries> find_series(const fs::path& folder) {
  for (int round = 1;; ++round) {
    std::error_code ignored;
    const fs::file_time_type before = fs::last_write_time(folder, ignored);
    Finder finder(folder);
    FLATBED_ASSIGN(const bool whole, finder.run());
    const bool same = whole && fs::last_write_time(folder, ignored) == before;
    if (same || round == kMaxRounds) return finder.finish();
  }
}

}  // namespace flatbed
