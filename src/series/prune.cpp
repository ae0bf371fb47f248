// Series::prune(): removes the checkpoints that the options do not keep.
#include <algorithm>
#include <cstddef>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/str_cat.hpp"
#include "series/choose.hpp"
#include "series/series_state.hpp"

namespace flatbed {

namespace {

// "step-000000003000.safetensors", "step-000000003000.sequence-7", ...
bool is_saved_name(const std::filesystem::path& path) {
  const std::string name = path.filename().native();
  std::string_view rest = name;
  const auto take = [&rest](std::string_view text) {
    if (!rest.starts_with(text)) return false;
    rest.remove_prefix(text.size());
    return true;
  };
  const auto take_digits = [&rest] {
    const std::size_t end = std::min(rest.find_first_not_of("0123456789"), rest.size());
    rest.remove_prefix(end);
    return end != 0;
  };
  if (!take("step-") || !take_digits()) return false;
  if (take(".sequence-") && !take_digits()) return false;
  return rest.empty() || rest == ".safetensors";
}

// Decides what is kept. Opens only what has to be whole: what is kept by number, until there are
// enough, and what is to be removed.
class Keeper {
 public:
  Keeper(const FoundSeries& found, const SeriesOptions& options)
      : found_(found), options_(options), kept_(found.entries.size()) {}

  Result<PruneReport> run() {
    // Also at least one, without which nothing is removed.
    std::vector<const FoundEntry*> last;
    for (const FoundEntry& entry : found_.entries) last.push_back(&entry);
    std::ranges::reverse(last);
    FLATBED_ASSIGN(const std::uint64_t whole,
                   keep_first(last, std::max<std::uint64_t>(options_.keep_last, 1)));
    FLATBED_TRY(keep_first(order_by_score(found_), options_.keep_best));
    for (std::size_t i = 0; i < kept_.size(); ++i) {
      const std::uint64_t every = options_.keep_every;
      if (every != 0 && found_.entries[i].entry.step % every == 0) kept_[i] = true;
    }
    const bool limited = options_.keep_last != 0 || options_.keep_every != 0;
    for (std::size_t i = 0; i < kept_.size(); ++i) {
      const FoundEntry& found = found_.entries[i];
      if (limited && whole != 0 && !kept_[i]) {
        FLATBED_TRY(remove_names(found, i));
      } else {
        report_.kept.push_back(found.entry);
      }
    }
    return std::move(report_);
  }

 private:
  // Returns how many there were, at most `count`.
  Result<std::uint64_t> keep_first(const std::vector<const FoundEntry*>& candidates,
                                   std::uint64_t count) {
    std::uint64_t kept = 0;
    for (const FoundEntry* candidate : candidates) {
      if (kept == count) break;
      const auto number = static_cast<std::size_t>(candidate - found_.entries.data());
      FLATBED_ASSIGN(const bool whole, is_open(number));
      if (!whole) continue;
      kept_[number] = true;
      ++kept;
    }
    return kept;
  }

  // All names of a checkpoint that save() could have given it. The user's own copies stay.
  Result<void> remove_names(const FoundEntry& found, std::size_t number) {
    FLATBED_ASSIGN(bool remove, is_open(number));
    SeriesEntry entry = found.entry;
    (remove && is_saved_name(entry.path) ? report_.removed : report_.kept).push_back(entry);
    for (const std::filesystem::path& copy : found.copies) {
      if (!remove || !is_saved_name(copy)) continue;
      std::error_code ignored;
      entry.path = copy;
      entry.is_set = std::filesystem::is_directory(copy, ignored);
      FLATBED_ASSIGN(const bool whole, is_whole(entry, report_.notes));
      if (whole) report_.removed.push_back(entry);
    }
    return {};
  }

  // Whether it opens, found out once.
  Result<bool> is_open(std::size_t number) {
    if (opened_.contains(number)) return true;
    if (damaged_.contains(number)) return false;
    FLATBED_ASSIGN(const bool whole, is_whole(found_.entries[number].entry, report_.notes));
    (whole ? opened_ : damaged_).insert(number);
    return whole;
  }

  const FoundSeries& found_;
  const SeriesOptions& options_;
  std::vector<bool> kept_;
  std::set<std::size_t> opened_;
  std::set<std::size_t> damaged_;
  PruneReport report_;
};

// What could not be removed moves to `kept`.
Result<void> remove_all(const Folder& folder, bool sync, PruneReport& report) {
  std::vector<SeriesEntry> removed;
  for (SeriesEntry& entry : report.removed) {
    const std::string name = entry.path.filename().native();
    const Result<void> done = entry.is_set ? folder.remove_set(name) : folder.remove_file(name);
    if (!done) report.notes.push_back(done.error().message);
    (done ? removed : report.kept).push_back(std::move(entry));
  }
  report.removed = std::move(removed);
  if (!sync || report.removed.empty()) return {};
  return folder.sync();
}

}  // namespace

Result<PruneReport> Series::State::prune(bool dry_run) {
  if (!dry_run) FLATBED_TRY(lock(false));
  FLATBED_ASSIGN(const FoundSeries found, find_series(folder));
  FLATBED_ASSIGN(PruneReport report, Keeper(found, options).run());
  if (dry_run || report.removed.empty()) return report;
  const Result<void> synced = remove_all(*locked, options.file.sync, report);
  if (!synced) report.notes.push_back(synced.error().message);
  std::ranges::sort(report.kept, {}, &SeriesEntry::sequence);
  return report;
}

Result<PruneReport> Series::prune(bool dry_run) {
  FLATBED_TRY(state_->finish_pending());
  return state_->prune(dry_run);
}

}  // namespace flatbed
