// Series::roll_back(): moves what comes after a step out of the series.
#include <algorithm>
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

constexpr int kMaxNamesTried = 1000;

struct Move {
  std::filesystem::path from;
  const SeriesEntry* entry = nullptr;
  bool is_set = false;
};

// The names of the later ones, also those of copies. The last of the series is first, so that a
// process that is killed leaves one that ends at a later step.
std::vector<Move> find_later(const FoundSeries& found, std::uint64_t sequence) {
  std::vector<Move> moves;
  for (auto entry = found.entries.rbegin(); entry != found.entries.rend(); ++entry) {
    if (entry->entry.sequence <= sequence) break;
    for (const std::filesystem::path& copy : entry->copies) {
      std::error_code ignored;
      moves.push_back({copy, &entry->entry, std::filesystem::is_directory(copy, ignored)});
    }
    moves.push_back({entry->entry.path, &entry->entry, entry->entry.is_set});
  }
  return moves;
}

// "step-000000003000.sequence-7.safetensors", from the second one of this name on with a number.
std::string new_name(const Move& move, int number) {
  const std::string name = move.from.filename().native();
  const std::string_view ending = move.is_set ? "" : ".safetensors";
  std::string_view stem = name;
  if (stem.ends_with(ending)) stem.remove_suffix(ending.size());
  const std::string sequence = str_cat(".sequence-", move.entry->sequence);
  if (stem.ends_with(sequence)) stem.remove_suffix(sequence.size());
  return str_cat(stem, sequence, number > 1 ? str_cat('.', number) : "", ending);
}

Result<SeriesEntry> move_one(const Folder& folder, const Folder& abandoned, const Move& move) {
  for (int number = 1;; ++number) {
    const std::string name = new_name(move, number);
    const Result<void> moved = folder.move(move.from.filename().native(), abandoned, name);
    if (moved) {
      SeriesEntry entry = *move.entry;
      entry.path = abandoned.path() / name;
      entry.is_set = move.is_set;
      return entry;
    }
    if (moved.error().code != ErrorCode::file_exists || number == kMaxNamesTried)
      return moved.error();
  }
}

}  // namespace

Result<RollBackReport> Series::roll_back(std::uint64_t step) {
  FLATBED_TRY(state_->finish_pending());
  FLATBED_TRY(at(step));  // before the lock, for its errors
  FLATBED_TRY(state_->lock(false));
  FLATBED_ASSIGN(const FoundSeries found, find_series(state_->folder));
  FLATBED_ASSIGN(SeriesEntry target, choose_step(found, step));
  if (!found.unread.empty())
    return with_context("it may be a later checkpoint, so nothing was moved", found.unread.front());
  RollBackReport report{std::move(target), {}};
  const std::vector<Move> moves = find_later(found, report.latest.sequence);
  if (moves.empty()) return report;
  const bool sync = state_->options.file.sync;
  FLATBED_ASSIGN(const Folder abandoned, state_->locked->make_inside(std::string(kAbandonedName)));
  if (sync) FLATBED_TRY(state_->locked->sync());
  // Before the first move, so that no number is given twice, whatever happens then.
  state_->highest_sequence = std::max(state_->highest_sequence, found.highest_sequence());
  for (const Move& move : moves) {
    FLATBED_ASSIGN(SeriesEntry moved, move_one(*state_->locked, abandoned, move));
    report.moved.push_back(std::move(moved));
  }
  if (!sync) return report;
  FLATBED_TRY(abandoned.sync());
  FLATBED_TRY(state_->locked->sync());
  return report;
}

}  // namespace flatbed
