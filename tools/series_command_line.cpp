#include "series_command_line.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <string_view>

#include "commands.hpp"
#include "convert_set.hpp"
#include "format_text.hpp"
#include "suggest.hpp"

namespace flatbed::tool {
namespace {

struct ActionRow {
  std::string_view word;
  SeriesAction action;
  std::string_view argument;  // what the word after it is; empty: there is none
};
constexpr std::array kActions{
    ActionRow{"list", SeriesAction::list, ""},
    ActionRow{"latest", SeriesAction::latest, ""},
    ActionRow{"best", SeriesAction::best, ""},
    ActionRow{"save", SeriesAction::save, "FILE"},
    ActionRow{"prune", SeriesAction::prune, ""},
    ActionRow{"roll-back", SeriesAction::roll_back, "STEP"},
    ActionRow{"verify", SeriesAction::verify, ""},
};
static_assert(kActions.size() == kSeriesActions);

// The options that only one action has.
struct OptionRow {
  const char* name;
  SeriesAction action;
};
constexpr std::array kOptions{
    OptionRow{"--step", SeriesAction::save},
    OptionRow{"--score", SeriesAction::save},
    OptionRow{"--metric", SeriesAction::save},
    OptionRow{"--mode", SeriesAction::save},
    OptionRow{"--max-shard-size", SeriesAction::save},
    OptionRow{"--keep-last", SeriesAction::prune},
    OptionRow{"--keep-best", SeriesAction::prune},
    OptionRow{"--keep-every", SeriesAction::prune},
    OptionRow{"--dry-run", SeriesAction::prune},
    OptionRow{"--threads", SeriesAction::verify},
};

const ActionRow& row_of(SeriesAction action) {
  return *std::ranges::find(kActions, action, &ActionRow::action);
}

std::string complain_about_action(const std::string& word) {
  if (std::ranges::find(kActions, std::string_view(word), &ActionRow::word) != kActions.end())
    return "";
  std::vector<std::string> words;
  for (const ActionRow& row : kActions) words.emplace_back(row.word);
  const std::string similar = similar_word(word, words);
  if (!similar.empty())
    return fmt::format("unknown action {}; did you mean {}?", quoted_text(word, 80), similar);
  return fmt::format("unknown action {}; expected one of {}", quoted_text(word, 80),
                     fmt::join(words, ", "));
}

// The whole word as a number; "nan", "inf" and "-inf" are floats.
template <typename Number>
bool parse_number(std::string_view word, Number& number) {
  const char* const end = word.data() + word.size();
  const auto [stop, failed] = std::from_chars(word.data(), end, number);
  return !word.empty() && failed == std::errc() && stop == end;
}

// CLI11 would take -1 for 2^64 - 1.
std::string complain_about_number(const std::string& word) {
  std::uint64_t number = 0;
  return parse_number(word, number) ? "" : quoted_text(word, 40) + ": expected a whole number";
}

void add_places(CLI::App& series, SeriesCommandOptions& options) {
  series.add_option("DIR", options.folder, "The folder of the series")->required()->type_name("");
  series
      .add_option_function<std::string>(
          "ACTION",
          [&options](const std::string& word) {
            options.action =
                std::ranges::find(kActions, std::string_view(word), &ActionRow::word)->action;
          },
          "What to do: list (the default), latest, best, save, prune, roll-back or verify")
      ->check(complain_about_action)
      ->type_name("list|latest|best|save|prune|roll-back|verify");
  series.add_option("ARGUMENT", options.argument, "Of save FILE, of roll-back STEP; see below")
      ->type_name("");
}

void add_save_options(CLI::App& series, SeriesCommandOptions& options) {
  series.add_option("--step", options.step, "save: the step, which is after the latest one")
      ->check(complain_about_number)
      ->type_name("N");
  series
      .add_option_function<std::string>(
          "--score",
          [&options](const std::string& word) { parse_number(word, options.score.emplace()); },
          "save: the score, a number, nan or inf")
      ->check([](const std::string& word) {
        double score = 0;
        return parse_number(word, score)
                   ? ""
                   : quoted_text(word, 40) + ": expected a number, nan or inf";
      })
      ->type_name("SCORE");
  series
      .add_option("--metric", options.series.metric, "save: what the scores are, such as val_loss")
      ->type_name("NAME");
  series
      .add_option_function<std::string>(
          "--mode",
          [&options](const std::string& word) {
            options.series.mode = word == name(ScoreMode::max) ? ScoreMode::max : ScoreMode::min;
          },
          "save: whether the lowest or the highest score is the best (default min)")
      ->check([](const std::string& word) {
        return word == "min" || word == "max" ? ""
                                              : quoted_text(word, 40) + ": expected min or max";
      })
      ->type_name("min|max");
  series
      .add_option_function<std::string>(
          "--max-shard-size",
          [&options](const std::string& word) {
            options.series.max_shard_nbytes = *parse_shard_size(word);
          },
          "save: write a sharded set into a folder of its own, as convert does")
      ->check([](const std::string& word) {
        const Result<std::uint64_t> nbytes = parse_shard_size(word);
        return nbytes ? std::string() : nbytes.error().message;
      })
      ->type_name("SIZE");
}

void add_other_options(CLI::App& series, SeriesCommandOptions& options) {
  series.add_option("--keep-last", options.series.keep_last, "prune: keep the last N checkpoints")
      ->check(complain_about_number)
      ->type_name("N");
  series
      .add_option("--keep-best", options.series.keep_best,
                  "prune: keep the N checkpoints with the best scores (default 1)")
      ->check(complain_about_number)
      ->type_name("N");
  series
      .add_option("--keep-every", options.series.keep_every,
                  "prune: keep those whose step is a multiple of N")
      ->check([](const std::string& word) {
        return word == "0" ? "expected a number above 0" : complain_about_number(word);
      })
      ->type_name("N");
  series.add_flag("-n,--dry-run", options.dry_run, "prune: say what would be removed");
  series
      .add_option("-j,--threads", options.threads,
                  fmt::format("verify: threads that read and check (1 to {}, default {})",
                              kMaxThreads, options.threads))
      ->check(CLI::Range(1U, kMaxThreads).description(""))
      ->type_name("N");
}

[[noreturn]] void refuse(const std::string& text) { throw CLI::ValidationError(text); }

bool has(const CLI::App& series, const char* option) { return series.count(option) != 0; }

void check_save(const CLI::App& series) {
  if (!has(series, "--step")) refuse("save needs --step N");
}

// All that is kept must be said: a prune that keeps everything was meant otherwise.
void check_prune(const CLI::App& series, SeriesCommandOptions& options) {
  if (!has(series, "--keep-last") && !has(series, "--keep-best") && !has(series, "--keep-every"))
    refuse("prune needs --keep-last N, --keep-best N or --keep-every N");
  // The latest one is kept in any case; without a limit on the last ones, all would be.
  if (options.series.keep_last == 0 && options.series.keep_every == 0) options.series.keep_last = 1;
}

void refuse_empty(const std::string& path) {
  if (path.empty()) refuse("a path is empty");
}

// What the parser cannot know: which action has which options and which argument.
void check_series(const CLI::App& series, SeriesCommandOptions& options) {
  const ActionRow& row = row_of(options.action);
  refuse_empty(options.folder.native());
  for (const OptionRow& option : kOptions) {
    if (option.action != options.action && has(series, option.name)) {
      refuse(fmt::format("{} is an option of {}, not of {}", option.name,
                         row_of(option.action).word, row.word));
    }
  }
  if (row.argument.empty() && has(series, "ARGUMENT"))
    refuse(fmt::format("{} takes no {}", row.word, quoted_text(options.argument, 80)));
  if (!row.argument.empty() && !has(series, "ARGUMENT"))
    refuse(fmt::format("{} needs {}", row.word, row.argument));
  if (options.action == SeriesAction::save) refuse_empty(options.argument);
  if (options.action == SeriesAction::save) check_save(series);
  if (options.action == SeriesAction::prune) check_prune(series, options);
  if (options.action == SeriesAction::roll_back && !parse_number(options.argument, options.step))
    refuse(fmt::format("{}: expected a step", quoted_text(options.argument, 80)));
}

}  // namespace

std::string_view word_of(SeriesAction action) { return row_of(action).word; }

void add_series(CLI::App& app, CommandLine::Parsed& parsed) {
  SeriesCommandOptions& options = parsed.series;
  CLI::App* series = app.add_subcommand(
      "series", "Find, keep, roll back and check the checkpoints of a training run in a folder");
  add_places(*series, options);
  add_save_options(*series, options);
  add_other_options(*series, options);
  series->add_flag("--json", parsed.as_json, "Print one JSON object");
  series->final_callback([series, &options] { check_series(*series, options); });
  series->footer(
      "  series DIR                  a table of the checkpoints: step, score, size, sealed or not\n"
      "  series DIR latest           print the path of the latest checkpoint that is whole:\n"
      "                              flatbed load \"$(flatbed series DIR latest)\"\n"
      "  series DIR best             the same of the one with the best score\n"
      "  series DIR save FILE --step N\n"
      "                              add a copy of a checkpoint to the series, which it may begin\n"
      "  series DIR prune --keep-last N\n"
      "                              remove what none of --keep-last, --keep-best and\n"
      "                              --keep-every keeps; never the latest one\n"
      "  series DIR roll-back STEP   go back: move later checkpoints into DIR/abandoned\n"
      "  series DIR verify           read and check every byte of every checkpoint\n\n"
      "Every checkpoint states in its own sealed header which one it is, so there is no list that "
      "could be wrong, and names of files mean nothing. A checkpoint is whole if it is sealed and "
      "complete; others are passed over, with a warning. NaN is never the best score, and of equal "
      "scores the first one is. The first save with --metric fixes metric and mode. Nothing that "
      "is not of the series is touched. One process writes at a time; any number read.\n\n"
      "Exit codes: 0 done; verify: every byte matches; 1 failed; there is no such checkpoint; "
      "verify: one or more are damaged; 2 the command line is wrong; 130 interrupted.\n\n"
      "The JSON object has schema, command, exit_code, error, path and action; list: metric, mode, "
      "checkpoints; latest, best, save and roll-back: checkpoint (null if there is none); save: "
      "pruned; roll-back: moved; prune: dry_run, removed, kept; verify: checkpoints; and notes "
      "[what was skipped or is odd, and why]. A checkpoint is {path, sequence, step, score (a "
      "number, null, or one of the texts nan, inf, -inf), epoch, nbytes, saved_at (milliseconds "
      "since 1970, UTC), sharded, content, parent}; list adds latest, best, whole and error; "
      "verify adds state (sealed, damaged or error), error, bytes_checked, chunks_checked, damaged "
      "[{file, tensor, begin, end}] and damaged_complete.");
}

}  // namespace flatbed::tool
