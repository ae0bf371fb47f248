#include "list_job.hpp"

#include <fmt/format.h>

#include <utility>

#include "convert_command_line.hpp"
#include "convert_jobs.hpp"
#include "convert_output.hpp"
#include "convert_text.hpp"
#include "format_text.hpp"
#include "json_out.hpp"
#include "output_lock.hpp"

namespace flatbed::tool {
namespace {

std::string report_line(const ConvertJob& job, const Outcome& outcome, std::uint64_t line,
                        const ConvertOptions& options) {
  std::string text;
  Output output(text);
  JsonWriter json(output);
  json.begin_object().key("line").number(line);
  write_outcome(job, outcome, options, json);
  json.end_object();
  output.write("\n");
  static_cast<void>(output.flush());  // into `text`, which does not fail
  return text;
}

void note(const ConvertJob& job, Outcome outcome, const ConvertOptions& options,
          ListResult& result) {
  result.status = outcome.status;
  result.output = job.output;
  result.tensors = outcome.tensors;
  result.nbytes = outcome.nbytes;
  result.report = report_line(job, outcome, result.line, options);
  for (const std::string& warning : outcome.warnings)
    result.warnings += warning_text(job.input, warning);
  if (outcome.status != Status::failed) {
    result.said =
        notes_text(job, outcome, 0) + shards_text(outcome) +
        fmt::format("{}: {}\n", path_text(job.output), result_text(job, outcome, options));
  }
  result.error = std::move(outcome.error);
}

// A job that failed before its conversion.
void note_failed(Error error, const ConvertOptions& options, ListResult& result) {
  Outcome outcome;
  outcome.status = Status::failed;
  outcome.error = std::move(error);
  ConvertJob job;
  job.input = result.input;
  job.output = result.output;
  note(job, std::move(outcome), options, result);
}

Outcome convert_listed(const ConvertJob& job, const ConvertOptions& options,
                       const ProgressCallback& progress, OutputLock::State lock) {
  const ConvertWatch watch{[](const Outcome&) {}, progress};
  Outcome outcome = convert_one(job, options, watch);
  // Without a lock another worker may have written the output meanwhile: then it is up to date.
  const bool again = lock == OutputLock::State::unavailable && outcome.error &&
                     outcome.error->code == ErrorCode::file_exists;
  return again ? convert_one(job, options, watch) : outcome;
}

}  // namespace

// Errors: invalid_argument, for what the line says; those of reading a folder that it names.
Result<ConvertOptions> ListJobs::read(const JobLine& line, ListResult& result) const {
  if (line.too_long) {
    return Error{ErrorCode::limit_exceeded,
                 fmt::format("the line is longer than {}", size_text(kMaxJobNbytes))};
  }
  JobParser parser;
  FLATBED_ASSIGN(const JobText job, parser.parse(line.text));
  result.input = job.input;
  result.output = job.output;
  FLATBED_ASSIGN(ConvertOptions options, options_of_job(options_, job));
  if (const JobClash* const clash = check_.find(line.number); clash != nullptr) {
    return Error{ErrorCode::name_collision,
                 clash->is_input
                     ? fmt::format("refusing to overwrite the input of line {}", clash->other)
                     : fmt::format("line {} would be written to the same output", clash->other)};
  }
  return options;
}

std::optional<ListResult> ListJobs::run(const JobLine& line,
                                        const ProgressCallback& progress) const {
  ListResult result;
  result.line = line.number;
  const Result<ConvertOptions> options = read(line, result);
  Result<ConvertJobs> plan = options ? plan_jobs(*options) : options.error();
  if (!plan) {
    note_failed(std::move(plan).error(), options_, result);
    return result;
  }
  const ConvertJob& job = plan->jobs.front();
  if (const Result<void> made = make_folder(job.folder, *options); !made) {
    note_failed(made.error(), *options, result);
    return result;
  }
  std::optional<OutputLock> lock;
  if (!options->dry_run) lock.emplace(OutputLock::take(job.output));
  if (lock && lock->state() == OutputLock::State::busy) return std::nullopt;
  note(job,
       convert_listed(job, *options, progress,
                      lock ? lock->state() : OutputLock::State::unavailable),
       *options, result);
  return result;
}

}  // namespace flatbed::tool
