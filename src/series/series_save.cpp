// Series::save(): states what a new checkpoint is, writes it, and prunes.
#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "base/str_cat.hpp"
#include "save/save_in_series.hpp"
#include "series/choose.hpp"
#include "series/series_state.hpp"
#include "series/statement.hpp"

namespace flatbed {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kStepDigits = 12;

std::int64_t now_ms() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

// The integer `epoch` of the dict that is saved, if it has one that a statement can say.
std::optional<std::int64_t> epoch_of(const SavePlan& plan) {
  if (plan.tree.root().id() == kNoNode) return std::nullopt;
  const Result<Value> epoch = plan.tree.root().at("epoch");
  if (!epoch) return std::nullopt;
  const std::optional<std::int64_t> number = epoch->as_int();
  constexpr auto kMost = static_cast<std::int64_t>(kMaxSequence);
  return number && *number >= -kMost && *number <= kMost ? number : std::nullopt;
}

// The latest one. nullopt: there is none that opens.
Result<std::optional<SeriesEntry>> find_parent(const FoundSeries& found) {
  Result<SeriesEntry> latest = choose_latest(found);
  if (latest) return std::optional(*std::move(latest));
  if (latest.error().code == ErrorCode::step_not_found) return std::optional<SeriesEntry>();
  return std::move(latest).error();
}

Result<void> check_step(std::uint64_t step, const std::optional<SeriesEntry>& parent) {
  if (!parent || step > parent->step) return {};
  return make_error(ErrorCode::step_not_after, "step ", step, " is not after step ", parent->step,
                    " of ", quoted(parent->path.native()),
                    "; to go on from an earlier step, roll the series back first");
}

// All but the sequence number.
Result<Statement> make_statement(const FoundSeries& found, const SeriesOptions& options,
                                 const SavePlan& plan, const SeriesStamp& stamp) {
  FLATBED_ASSIGN(const ScoreKind kind, agree_on_scores(options, found));
  if (stamp.score && !kind.metric) {
    return make_error(ErrorCode::invalid_argument,
                      "there is a score and no metric; name the metric in the options");
  }
  FLATBED_ASSIGN(const std::optional<SeriesEntry> parent, find_parent(found));
  FLATBED_TRY(check_step(stamp.step, parent));
  Statement statement{
      .step = stamp.step, .score = stamp.score, .metric = kind.metric, .mode = kind.mode};
  if (parent) statement.parent = parent->content;
  statement.saved_at = now_ms();
  statement.epoch = epoch_of(plan);
  return statement;
}

// The name says nothing to readers. It is taken where a damaged checkpoint of this step is, or
// something of the user's.
fs::path free_path(const fs::path& folder, const Statement& statement, std::string_view ending) {
  std::string digits = str_cat(statement.step);
  if (digits.size() < kStepDigits) digits.insert(0, kStepDigits - digits.size(), '0');
  fs::path path = folder / str_cat("step-", digits, ending);
  std::error_code ignored;
  if (!fs::exists(fs::symlink_status(path, ignored))) return path;
  return folder / str_cat("step-", digits, ".sequence-", statement.sequence, ending);
}

// Writes the file, or the set, and adds to `saved` what is known then.
Result<void> write_checkpoint(const SeriesOptions& series, const SavePlan& plan,
                              const std::string& statement, SeriesSave& saved) {
  SeriesEntry& entry = saved.entry;
  SaveOptions options = series.file;
  options.seal = true;
  options.replace = false;
  if (!entry.is_set) {
    FLATBED_ASSIGN(saved.files, save_in_series(entry.path, plan, options, statement));
    entry.content = saved.files.content;
    return {};
  }
  const SaveSetOptions set{
      .max_shard_nbytes = *series.max_shard_nbytes, .replace = false, .file = options};
  FLATBED_ASSIGN(SaveSetReport report, save_set_in_series(entry.path, plan, set, statement));
  saved.files = std::move(report.files);
  saved.notes = std::move(report.notes);
  saved.file_count = report.shards.size();
  entry.content = std::move(report.shards.front().content);
  return {};
}

SeriesEntry entry_of(const Statement& statement) {
  SeriesEntry entry;
  entry.sequence = statement.sequence;
  entry.step = statement.step;
  entry.score = statement.score;
  entry.epoch = statement.epoch;
  entry.parent = statement.parent.value_or("");
  entry.saved_at = statement.saved_at;
  return entry;
}

}  // namespace

Result<ScoreKind> agree_on_scores(const SeriesOptions& options, const FoundSeries& found) {
  if (!found.metric) return ScoreKind{options.metric, options.mode.value_or(ScoreMode::min)};
  if (options.metric && *options.metric != *found.metric) {
    return make_error(ErrorCode::series_mismatch, "the metric is ",
                      quoted(std::string_view(*found.metric)), ", not ",
                      quoted(std::string_view(*options.metric)));
  }
  if (options.mode && *options.mode != found.mode) {
    return make_error(ErrorCode::series_mismatch, "the mode of the metric ",
                      quoted(std::string_view(*found.metric)), " is ", name(found.mode), ", not ",
                      name(*options.mode));
  }
  return ScoreKind{found.metric, found.mode};
}

// Where it is not durable, a note says why. Also of a folder that was there: the process that made
// it may have been killed before this.
std::string Series::State::sync_folder_name() {
  if (folder_is_durable || !options.file.sync) return {};
  const Result<void> synced = locked->sync_above();
  folder_is_durable = synced.has_value();
  return synced ? std::string() : synced.error().message;
}

Result<void> Series::State::lock(bool make_folder) {
  if (locked) return {};
  FLATBED_ASSIGN(Folder opened, make_folder ? Folder::make(folder) : Folder::open(folder));
  if (!opened.lock()) {
    return make_error(ErrorCode::series_locked, quoted(folder.native()),
                      ": another process, or another Series, writes to it");
  }
  const Result<FoundSeries> abandoned = find_series(folder / kAbandonedName);
  if (abandoned) {
    highest_sequence = abandoned->highest_sequence();
  } else if (abandoned.error().code == ErrorCode::resource_exhausted) {
    return abandoned.error();
  }
  locked.emplace(std::move(opened));
  return {};
}

Result<SeriesSave> Series::State::save(const SavePlan& plan, const SeriesStamp& stamp) {
  FLATBED_TRY(lock(true));
  FLATBED_ASSIGN(const FoundSeries found, find_series(folder));
  Result<Statement> statement = make_statement(found, options, plan, stamp);
  if (!statement) return with_context(quoted(folder.native()), std::move(statement).error());
  highest_sequence = std::max(highest_sequence, found.highest_sequence());
  statement->sequence = highest_sequence + 1;
  if (statement->sequence > kMaxSequence) {
    return make_error(ErrorCode::limit_exceeded, quoted(folder.native()),
                      ": a checkpoint has the highest sequence number that there is, ",
                      kMaxSequence, "; move it away");
  }
  FLATBED_ASSIGN(const std::string text, encode_statement(*statement));
  SeriesSave saved{entry_of(*statement), {}, {}, {}};
  saved.entry.is_set = options.max_shard_nbytes.has_value();
  saved.entry.path = free_path(folder, *statement, saved.entry.is_set ? "" : ".safetensors");
  std::string folder_note = sync_folder_name();
  FLATBED_TRY(write_checkpoint(options, plan, text, saved));
  highest_sequence = statement->sequence;
  saved.entry.nbytes = saved.files.nbytes;
  // Those before it are needed for as long as a power failure could take it away.
  if (options.file.sync && saved.files.durability != Durability::committed) {
    saved.notes.push_back("nothing was pruned, because the new one may not be durable");
    return saved;
  }
  if (!folder_note.empty()) {
    saved.files.durability = Durability::durability_unknown;
    saved.files.durability_note = std::move(folder_note);
  }
  Result<PruneReport> pruned = prune(false);
  if (pruned) {
    saved.pruned = std::move(pruned->removed);
    for (std::string& note : pruned->notes) saved.notes.push_back(std::move(note));
  } else {
    saved.notes.push_back(str_cat("not pruned: ", pruned.error().message));
  }
  return saved;
}

Result<SeriesSave> Series::save(const SavePlan& plan, const SeriesStamp& stamp) {
  FLATBED_TRY(state_->finish_pending());
  return state_->save(plan, stamp);
}

}  // namespace flatbed
