#include "series/choose.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "safetensors/seal.hpp"

namespace flatbed {

namespace {

// The first of `candidates` that opens.
Result<std::optional<SeriesEntry>> first_whole(std::span<const FoundEntry* const> candidates) {
  std::vector<std::string> notes;
  for (const FoundEntry* candidate : candidates) {
    FLATBED_ASSIGN(const bool whole, is_whole(candidate->entry, notes));
    if (!whole) continue;
    SeriesEntry entry = candidate->entry;
    entry.notes = std::move(notes);
    return std::optional(std::move(entry));
  }
  return std::optional<SeriesEntry>();
}

Error none_opens(std::size_t count, const std::vector<const FoundEntry*>& candidates) {
  return make_error(ErrorCode::step_not_found, "none of the ", counted(count, "checkpoint"),
                    " opens; the first is ", quoted(candidates.front()->entry.path.native()));
}

Result<SeriesEntry> choose(const std::vector<const FoundEntry*>& candidates,
                           std::string_view none) {
  if (candidates.empty()) return make_error(ErrorCode::step_not_found, none);
  FLATBED_ASSIGN(std::optional<SeriesEntry> entry, first_whole(candidates));
  if (entry) return *std::move(entry);
  return none_opens(candidates.size(), candidates);
}

// The value of flatbed.series in a header that was checked.
std::string_view statement_of(const Checkpoint& checkpoint) {
  for (const auto& [key, value] : checkpoint.metadata()) {
    if (key == safetensors::kSeriesKey) return value;
  }
  return {};
}

}  // namespace

Result<Checkpoint> Series::open_entry(const SeriesEntry& entry) {
  FLATBED_ASSIGN(
      Checkpoint checkpoint,
      Checkpoint::open(entry.path, {.check_seal = CheckSeal::required, .follow_links = false}));
  const std::string place = quoted(entry.path.native());
  if (checkpoint.seal() != SealState::sealed) {
    return make_error(ErrorCode::seal_header_mismatch, place,
                      ": the header was rewritten after it was sealed");
  }
  if (const std::optional<Error> missing = CheckpointAccess::missing_tensor(checkpoint)) {
    return with_context(place, *missing);
  }
  const Result<Statement> stated = parse_statement(statement_of(checkpoint));
  if (!stated || checkpoint.files().front().content != entry.content ||
      stated->sequence != entry.sequence || stated->step != entry.step) {
    return make_error(ErrorCode::file_changed, place,
                      ": is not the checkpoint that was listed: expected content ", entry.content,
                      " of step ", entry.step);
  }
  return checkpoint;
}

Result<bool> is_whole(const SeriesEntry& entry, std::vector<std::string>& notes) {
  const Result<Checkpoint> opened = Series::open_entry(entry);
  if (opened) return true;
  if (opened.error().code == ErrorCode::resource_exhausted) return opened.error();
  notes.push_back(str_cat("passed over step ", entry.step, ": ", opened.error().message));
  return false;
}

Result<SeriesEntry> choose_latest(const FoundSeries& found) {
  std::vector<const FoundEntry*> candidates;
  for (const FoundEntry& entry : found.entries) candidates.push_back(&entry);
  std::ranges::reverse(candidates);
  return choose(candidates, "there is no checkpoint");
}

std::vector<const FoundEntry*> order_by_score(const FoundSeries& found) {
  std::vector<const FoundEntry*> ordered;
  for (const FoundEntry& entry : found.entries) {
    const std::optional<double> score = entry.entry.score;
    if (entry.same_metric && score && !std::isnan(*score)) ordered.push_back(&entry);
  }
  // Stable, so that ties keep the earlier one first.
  std::ranges::stable_sort(ordered, [&](const FoundEntry* one, const FoundEntry* other) {
    return is_better(found.mode, *one->entry.score, *other->entry.score);
  });
  return ordered;
}

Result<SeriesEntry> choose_best(const FoundSeries& found) {
  return choose(order_by_score(found), "there is no checkpoint with a score");
}

Result<SeriesEntry> choose_step(const FoundSeries& found, std::uint64_t step) {
  std::vector<const FoundEntry*> candidates;
  for (const FoundEntry& entry : found.entries) {
    if (entry.entry.step == step) candidates.push_back(&entry);
  }
  if (candidates.empty())
    return make_error(ErrorCode::step_not_found, "there is no checkpoint of step ", step);
  std::ranges::reverse(candidates);
  FLATBED_ASSIGN(std::optional<SeriesEntry> entry, first_whole(candidates));
  if (entry) return *std::move(entry);
  const Result<Checkpoint> why = Series::open_entry(candidates.front()->entry);
  if (!why) return why.error();
  return candidates.front()->entry;  // it was mended meanwhile
}

}  // namespace flatbed
