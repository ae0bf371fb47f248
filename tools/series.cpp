// flatbed series: the checkpoints of a training run, in a folder (spec section 13).
#include "flatbed/series.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "commands.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/save_plan.hpp"
#include "format_text.hpp"
#include "interrupt.hpp"
#include "json_out.hpp"
#include "open_input.hpp"
#include "progress.hpp"
#include "seal_text.hpp"
#include "series_json.hpp"
#include "series_text.hpp"

namespace flatbed::tool {
namespace {

namespace fs = std::filesystem;

// The best one is asked for, because an entry does not say whether it counts for that. The latest
// is the last that is whole.
Result<SeriesTable> read_table(const Series& series) {
  SeriesTable table;
  FLATBED_ASSIGN(table.listing, series.list());
  const Result<SeriesEntry> best = series.best();
  if (!best && best.error().code != ErrorCode::step_not_found) return best.error();
  for (SeriesEntry& entry : table.listing.entries) {
    const Result<Checkpoint> opened = Series::open_entry(entry);
    SeriesRow row{std::move(entry), std::nullopt, false, false};
    if (!opened) row.error = opened.error();
    row.best = best && best->path == row.entry.path;
    table.rows.push_back(std::move(row));
  }
  const auto is_whole = [](const SeriesRow& row) { return !row.error; };
  const auto latest = std::find_if(table.rows.rbegin(), table.rows.rend(), is_whole);
  if (latest != table.rows.rend()) latest->latest = true;
  return table;
}

// For a shell's "$(...)": as it is, and not like an option.
std::string path_word(const fs::path& path) {
  const std::string& text = path.native();
  return (text.starts_with('-') ? "./" : "") + text + "\n";
}

std::string damage_text(const VerifiedEntry& verified) {
  const VerifyReport& report = *verified.report;
  const std::size_t ranges = report.damaged.size();
  std::string text =
      fmt::format("damaged: {}{} {} not match", report.damaged_complete ? "" : "more than ",
                  count_text(ranges, "byte range"), verb_text(ranges, "does", "do"));
  const Result<Checkpoint> opened = Series::open_entry(verified.entry);
  if (opened) {
    const DamagedRange& first = report.damaged.front();
    text += fmt::format("; the first is [{},{}) of tensor {}", first.begin, first.end,
                        quoted_text(opened->tensors()[first.tensor].name, 64));
  }
  return text;
}

std::string error_text(const Error& error) {
  return fmt::format("{} [{}]", safe_text(error.message), name(error.code));
}

class SeriesRun {
 public:
  SeriesRun(const SeriesCommandOptions& options, Output& output)
      : options_(options), output_(output), json_(output), as_json_(options.form == Form::json) {}

  ExitCode run() {
    if (as_json_) {
      json_.begin_result("series").path("path", options_.folder);
      json_.key("action").text(word_of(options_.action));
    }
    Result<ExitCode> done = act();
    progress_.reset();
    ExitCode code = done ? *done : ExitCode::failure;
    if (!done) {
      error_ = about(options_.folder, std::move(done).error());
      if (error_->code == ErrorCode::cancelled) {
        code = ExitCode::interrupted;
        if (options_.action == SeriesAction::save) error_->message += "; nothing written";
      }
    }
    if (as_json_) json_.end_result(code, error_);
    static_cast<void>(output_.flush());  // before what follows; run_tool() reports its errors
    if (!as_json_) {
      for (const std::string& warning : warnings_) print_warning(options_.folder, warning);
    }
    if (error_) print_error(*error_);
    return code;
  }

 private:
  Result<ExitCode> act() {
    FLATBED_TRY(check_is_local(options_.folder, "series"));
    FLATBED_ASSIGN(Series series, Series::open(options_.folder, series_options()));
    switch (options_.action) {
      case SeriesAction::list:
        return list(series);
      case SeriesAction::latest:
        return show(series.latest());
      case SeriesAction::best:
        return show(series.best());
      case SeriesAction::save:
        return save(series);
      case SeriesAction::prune:
        return prune(series);
      case SeriesAction::roll_back:
        return roll_back(series);
      case SeriesAction::verify:
        return verify(series);
    }
    return Error{ErrorCode::internal_error, "unknown action"};
  }

  SeriesOptions series_options() {
    SeriesOptions series = options_.series;
    series.file.cancel = &interrupted();
    if (options_.action == SeriesAction::save) series.file.progress = progress_callback("saving");
    return series;
  }

  ProgressCallback progress_callback(std::string_view verb) {
    progress_.emplace(verb, 1, !as_json_);
    return progress_->callback(0);
  }

  void warn(const std::vector<std::string>& notes) {
    warnings_.insert(warnings_.end(), notes.begin(), notes.end());
    if (as_json_) write_notes(notes, json_);
  }

  Result<ExitCode> list(const Series& series) {
    FLATBED_ASSIGN(const SeriesTable table, read_table(series));
    if (as_json_) {
      write_table(table, json_);
      return ExitCode::ok;
    }
    write_table(table, stdout_is_terminal() ? terminal_columns(Stream::output) : 0, output_);
    warn(table.listing.notes);
    for (const SeriesRow& row : table.rows) {
      if (row.error) warnings_.push_back(row.error->message);
    }
    return ExitCode::ok;
  }

  Result<ExitCode> show(const Result<SeriesEntry>& entry) {
    if (as_json_) write_checkpoint("checkpoint", entry ? &*entry : nullptr, json_);
    if (!entry) return entry.error();
    if (!as_json_) output_.write(path_word(entry->path));
    warn(entry->notes);
    return ExitCode::ok;
  }

  Result<ExitCode> save(Series& series) {
    const fs::path file = options_.argument;
    const Result<Checkpoint> checkpoint = open_input(file, {}, {});
    if (!checkpoint) return about(file, with_way_out(checkpoint.error()));
    FLATBED_ASSIGN(const SavePlan plan, make_plan(*checkpoint));
    FLATBED_ASSIGN(const SeriesSave saved, series.save(plan, {options_.step, options_.score}));
    if (as_json_) {
      write_checkpoint("checkpoint", &saved.entry, json_);
      write_checkpoints("pruned", saved.pruned, json_);
    } else {
      output_.write(fmt::format("saved {}\n", entry_text(saved.entry)));
      if (!saved.files.durability_note.empty()) warnings_.push_back(saved.files.durability_note);
    }
    warn(saved.notes);
    return ExitCode::ok;
  }

  Result<ExitCode> prune(Series& series) {
    FLATBED_ASSIGN(const PruneReport report, series.prune(options_.dry_run));
    if (as_json_) {
      json_.key("dry_run").boolean(options_.dry_run);
      write_checkpoints("removed", report.removed, json_);
      write_checkpoints("kept", report.kept, json_);
    } else {
      write_lines(options_.dry_run ? "would remove" : "removed", report.removed);
      output_.write(fmt::format("{} {}, {} kept\n", count_text(report.removed.size(), "checkpoint"),
                                options_.dry_run ? "to remove" : "removed",
                                number_text(report.kept.size())));
    }
    warn(report.notes);
    return ExitCode::ok;
  }

  Result<ExitCode> roll_back(Series& series) {
    FLATBED_ASSIGN(const RollBackReport report, series.roll_back(options_.step));
    if (as_json_) {
      write_checkpoint("checkpoint", &report.latest, json_);
      write_checkpoints("moved", report.moved, json_);
    } else {
      write_lines("moved to", report.moved);
      output_.write(fmt::format("{} moved; the latest is {}\n",
                                count_text(report.moved.size(), "checkpoint"),
                                entry_text(report.latest)));
    }
    warn(report.latest.notes);
    return ExitCode::ok;
  }

  void write_lines(std::string_view verb, const std::vector<SeriesEntry>& entries) {
    for (const SeriesEntry& entry : entries)
      output_.write(fmt::format("{} {}\n", verb, entry_text(entry)));
  }

  Result<ExitCode> verify(const Series& series) {
    VerifyOptions how{options_.threads, progress_callback("verifying"), &interrupted()};
    FLATBED_ASSIGN(const SeriesVerify verified, series.verify(how));
    if (as_json_) {
      write_verified(verified, json_);
    } else {
      write_verified_lines(verified);
      warnings_ = verified.notes;
    }
    for (const VerifiedEntry& one : verified.entries) {
      if (as_json_ && !one.report && !error_) error_ = about(one.entry.path, one.report.error());
    }
    return verified.ok() ? ExitCode::ok : ExitCode::failure;
  }

  void write_verified_lines(const SeriesVerify& verified) {
    std::size_t whole = 0;
    for (const VerifiedEntry& one : verified.entries) {
      std::string text;
      if (one.ok()) {
        ++whole;
        text = fmt::format("sealed: {} {}", count_text(one.report->chunks_checked, "chunk"),
                           verb_text(one.report->chunks_checked, "matches", "match"));
      } else {
        text = one.report ? damage_text(one) : error_text(one.report.error());
      }
      output_.write(fmt::format("{}: {}\n", entry_text(one.entry), text));
    }
    output_.write(fmt::format("every byte matches in {} of {}\n", number_text(whole),
                              count_text(verified.entries.size(), "checkpoint")));
  }

  const SeriesCommandOptions& options_;
  Output& output_;
  JsonWriter json_;
  bool as_json_;
  std::optional<ProgressLine> progress_;
  std::vector<std::string> warnings_;
  std::optional<Error> error_;
};

// Reading a folder takes no time that is worth a signal handler.
bool can_be_interrupted(SeriesAction action) {
  return action == SeriesAction::save || action == SeriesAction::verify ||
         action == SeriesAction::prune || action == SeriesAction::roll_back;
}

}  // namespace

ExitCode run_series(const SeriesCommandOptions& options, Output& output) {
  if (can_be_interrupted(options.action)) catch_interrupts();
  return SeriesRun(options, output).run();
}

}  // namespace flatbed::tool
