// flatbed match: compares a checkpoint with what an engine, another checkpoint or a file expects.
#include "flatbed/match.hpp"

#include "commands.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/key_map.hpp"
#include "format_text.hpp"
#include "json_out.hpp"
#include "match_text.hpp"
#include "open_input.hpp"
#include "progress.hpp"
#include "renames.hpp"

namespace flatbed::tool {
namespace {

// Comparing reads no data, so a broken seal does not prevent it.
Result<Checkpoint> open(const std::filesystem::path& path, const MatchCommandOptions& options) {
  return open_input(path, {.check_seal = CheckSeal::off}, options.remote);
}

Result<Checkpoint> open_part(const MatchCommandOptions& options) {
  FLATBED_ASSIGN(Checkpoint checkpoint, open(options.path, options));
  if (!options.select.empty() || !options.include.empty() || !options.exclude.empty()) {
    Selection selection{options.select, options.include, options.exclude};
    selection.state_dict = !options.select.empty();
    FLATBED_ASSIGN(checkpoint, checkpoint.select(selection));
  }
  return renamed(checkpoint, options.renames);
}

// The names of an index end in .json too: it is a checkpoint.
bool is_expectations(const std::filesystem::path& path) {
  return path.extension() == ".json" &&
         path.filename().native().find(".index.") == std::string::npos;
}

Result<std::vector<Expected>> read_expected(const MatchCommandOptions& options) {
  const std::filesystem::path& path = options.expect;
  if (is_expectations(path)) {
    FLATBED_TRY(check_is_local(path, "--expect FILE.json"));
    return read_expectations(path);
  }
  FLATBED_ASSIGN(const Checkpoint other, open(path, options));
  return expectations(other);
}

MatchOptions match_options(const MatchCommandOptions& options) {
  MatchOptions out;
  if (options.torch) out.meaning = MatchMeaning::torch;
  if (options.exact_dtype) out.dtypes = DtypePolicy::exact;
  out.ignore_mismatched_sizes = options.ignore_mismatched_sizes;
  out.ready_sets = options.ready_sets;
  return out;
}

// The checkpoint with the names that the report has.
Result<Checkpoint> as_matched(const Checkpoint& checkpoint, const MatchReport& report) {
  KeyMap map;
  if (report.applied && !report.applied->strip.empty())
    FLATBED_TRY(map.strip_prefix(report.applied->strip, Unmatched::allow));
  if (report.applied && !report.applied->add.empty())
    FLATBED_TRY(map.add_prefix(report.applied->add));
  return checkpoint.rename(map);
}

Result<Comparison> compare(const MatchCommandOptions& options) {
  Result<std::vector<Expected>> expected = read_expected(options);
  if (!expected) return about(options.expect, expected.error());
  const Result<Checkpoint> checkpoint = open_part(options);
  if (!checkpoint) return about(options.path, checkpoint.error());
  FLATBED_ASSIGN(MatchReport report, match(*checkpoint, *expected, match_options(options)));
  FLATBED_ASSIGN(Checkpoint named, as_matched(*checkpoint, report));
  return Comparison{std::move(named), *std::move(expected), std::move(report)};
}

ExitCode exit_code(const Result<Comparison>& comparison, const MatchCommandOptions& options) {
  if (!comparison) return ExitCode::failure;
  const MatchReport& report = comparison->report;
  const bool good = options.partial ? report.partial() : report.complete();
  return good ? ExitCode::ok : ExitCode::failure;
}

}  // namespace

ExitCode run_match(const MatchCommandOptions& options, Output& output) {
  const Result<Comparison> comparison = compare(options);
  const ExitCode code = exit_code(comparison, options);
  if (options.form == Form::json) {
    JsonWriter json(output);
    json.begin_result("match").path("path", options.path).path("expect", options.expect);
    json.key("meaning").text(options.torch ? "torch" : "checkpoint");
    json.key("dtypes").text(options.exact_dtype ? "exact" : "cast");
    if (comparison) write_match_json(*comparison, json);
    json.end_result(code, comparison ? std::nullopt : std::optional(comparison.error()));
  } else if (comparison) {
    const std::size_t width = stdout_is_terminal() ? terminal_columns(Stream::output) : 0;
    write_match(*comparison, options, width, output);
  }
  if (!comparison) print_error(comparison.error());
  return code;
}

}  // namespace flatbed::tool
