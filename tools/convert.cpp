// flatbed convert: runs the conversions of one command line, several at a time, and reports them.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <mutex>
#include <system_error>
#include <vector>

#include "commands.hpp"
#include "convert_jobs.hpp"
#include "convert_list.hpp"
#include "convert_one.hpp"
#include "convert_output.hpp"
#include "convert_text.hpp"
#include "format_text.hpp"
#include "interrupt.hpp"
#include "json_out.hpp"
#include "progress.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kMaxPathColumns = 48;

class ConvertRun {
 public:
  ConvertRun(const ConvertOptions& options, ConvertJobs plan, Output& output)
      : options_(options),
        plan_(std::move(plan)),
        output_(output),
        talks_(!options.quiet && options.form == Form::text),
        progress_(options.dry_run ? "planning" : "converting", plan_.jobs.size(), talks_),
        announced_(plan_.jobs.size()),
        outcomes_(plan_.jobs.size()) {}

  ExitCode run() {
    for (std::size_t i = 0; i < plan_.jobs.size(); ++i) progress_.expect(i, plan_.jobs[i].input);
    const std::size_t workers = std::clamp<std::size_t>(options_.jobs, 1, plan_.jobs.size());
    std::vector<std::future<void>> running;
    for (std::size_t i = 1; i < workers; ++i) {
      running.push_back(std::async(std::launch::async, [this] { work(); }));
    }
    work();
    for (std::future<void>& worker : running) worker.get();
    progress_.clear();
    if (options_.form == Form::json) {
      write_json();
    } else if (!options_.quiet && plan_.batch) {
      write_table();
    }
    return exit_code();
  }

 private:
  // Takes jobs until none are left.
  void work() {
    for (std::size_t i = next_++; i < plan_.jobs.size() && !interrupted(); i = next_++) {
      ConvertWatch watch;
      watch.announce = [this, i](const Outcome& outcome) {
        announced_[i] = outcome.notes.size();
        announce(plan_.jobs[i], outcome);
      };
      watch.progress = progress_.callback(i);
      outcomes_[i] = convert_one(plan_.jobs[i], options_, watch);
      progress_.finish(i);
      finished(i);
    }
  }

  void announce(const ConvertJob& job, const Outcome& outcome) {
    if (!talks_) return;
    if (plan_.batch) {  // one line for each file, after it is done; only notes come before
      print(notes_text(job, outcome, 0));
      return;
    }
    const std::string input = path_text(job.input);
    std::string text = fmt::format("{}: {}\n", input, outcome.found);
    if (!outcome.chosen.empty()) text += fmt::format("{}: keeping {}\n", input, outcome.chosen);
    const std::string_view keeps =
        job.torch && options_.allow_conversion
            ? "keeping what weights_only=True allows and replacing the rest"
            : "keeping everything";
    if (outcome.weights.size() == 1) {
      text += fmt::format("{}: {}; use --select {} for the weights only\n", input, keeps,
                          safe_text(outcome.weights[0].path));
    } else if (!outcome.weights.empty()) {
      text += fmt::format("{}: {}; for the weights only, use one of: {}\n", input, keeps,
                          picks_text(outcome.weights));
    }
    print(text + notes_text(job, outcome, 0));
  }

  void finished(std::size_t i) {
    const ConvertJob& job = plan_.jobs[i];
    const Outcome& outcome = outcomes_[i];
    if (outcome.error) {
      const std::lock_guard lock(mutex_);
      progress_.clear();
      print_error(*outcome.error);
    }
    warn(job, outcome);
    if (!talks_ || outcome.status == Status::failed) return;
    print(notes_text(job, outcome, announced_[i]) + shards_text(outcome) +
          fmt::format("{}: {}\n", path_text(job.output), result_text(job, outcome, options_)));
  }

  // On standard error, because standard output may be read by a program or be suppressed.
  void warn(const ConvertJob& job, const Outcome& outcome) {
    const std::lock_guard lock(mutex_);
    if (!outcome.warnings.empty()) progress_.clear();
    for (const std::string& warning : outcome.warnings) print_warning(job.input, warning);
  }

  void print(const std::string& text) {
    const std::lock_guard lock(mutex_);
    progress_.clear();
    output_.write(text);
    static_cast<void>(output_.flush());  // so that logs grow line by line; main() reports errors
  }

  std::size_t count(Status status) const {
    return static_cast<std::size_t>(
        std::count_if(outcomes_.begin(), outcomes_.end(),
                      [&](const Outcome& outcome) { return outcome.status == status; }));
  }

  void write_table() {
    std::size_t path_columns = 5;
    for (const ConvertJob& job : plan_.jobs) {
      path_columns = std::max(path_columns, columns(path_text(job.input)));
    }
    path_columns = std::min(path_columns, kMaxPathColumns);
    output_.write(fmt::format("\n{:<11}  {}  {:>9}  {:>10}  OUTPUT\n", "STATUS",
                              padded("INPUT", path_columns), "TENSORS", "SIZE"));
    for (std::size_t i = 0; i < outcomes_.size(); ++i) {
      const Outcome& outcome = outcomes_[i];
      const bool counted =
          outcome.status != Status::failed && outcome.status != Status::not_started;
      output_.write(fmt::format("{:<11}  {}  {:>9}  {:>10}  {}\n", words_of(outcome.status),
                                padded(path_text(plan_.jobs[i].input), path_columns),
                                counted ? number_text(outcome.tensors) : "-",
                                counted ? size_text(outcome.nbytes) : "-",
                                last_column(plan_.jobs[i], outcome)));
    }
    std::string sum;
    for (const Status status : {Status::converted, Status::planned, Status::up_to_date,
                                Status::failed, Status::not_started}) {
      if (count(status) == 0) continue;
      sum += fmt::format("{}{} {}", sum.empty() ? "" : ", ", count(status), words_of(status));
    }
    output_.write(sum + "\n");
    for (const Outcome& outcome : outcomes_) {  // again: the first time may be far above by now
      if (outcome.error)
        output_.write(fmt::format("failed: {} [{}]\n", safe_text(outcome.error->message),
                                  name(outcome.error->code)));
    }
  }

  void write_json() {
    JsonWriter json(output_);
    json.begin_result("convert").key("files").begin_array();
    for (std::size_t i = 0; i < outcomes_.size(); ++i) {
      json.begin_object();
      write_outcome(plan_.jobs[i], outcomes_[i], options_, json);
      json.end_object();
    }
    json.end_array();
    for (const Status status : {Status::converted, Status::planned, Status::up_to_date,
                                Status::failed, Status::not_started}) {
      json.key(name(status)).number(count(status));
    }
    const auto failed = std::ranges::find_if(
        outcomes_, [](const Outcome& outcome) { return outcome.error.has_value(); });
    json.end_result(exit_code(), failed == outcomes_.end() ? std::nullopt : failed->error);
  }

  ExitCode exit_code() const {
    if (interrupted()) return ExitCode::interrupted;
    if (count(Status::failed) == 0) return ExitCode::ok;
    if (outcomes_.size() > 1) return ExitCode::some_failed;
    return outcomes_[0].refused ? ExitCode::usage : ExitCode::failure;
  }

  const ConvertOptions& options_;
  ConvertJobs plan_;
  Output& output_;
  bool talks_;
  ProgressLine progress_;
  std::mutex mutex_;  // guards output_ and standard error
  std::atomic<std::size_t> next_{0};
  std::vector<std::size_t> announced_;  // for each job, the notes already printed
  std::vector<Outcome> outcomes_;       // for each job, written by the worker that took it
};

// Removes the directory again, and those above it down to `parent`, where nothing was written.
void remove_unused(std::filesystem::path folder, const std::filesystem::path& parent) {
  std::error_code failed;  // also where there is something in it
  while (!folder.empty() && folder != parent && std::filesystem::remove(folder, failed))
    folder = folder.parent_path();
}

}  // namespace

ExitCode run_convert(const ConvertOptions& options, Output& output) {
  catch_interrupts();
  if (!options.list.empty()) return convert_list(options, output);
  Result<ConvertJobs> plan = plan_jobs(options);
  if (!plan) {
    const ErrorCode code = plan.error().code;
    const bool usage = code == ErrorCode::invalid_argument || code == ErrorCode::name_collision;
    return refuse_convert(plan.error(), usage ? ExitCode::usage : ExitCode::failure, options,
                          output);
  }
  const std::filesystem::path folder = plan->jobs.front().folder;
  const std::filesystem::path parent = existing_parent(folder);
  if (const Result<void> made = make_folder(folder, options); !made) {
    return refuse_convert(made.error(), ExitCode::failure, options, output);
  }
  const ExitCode code = ConvertRun(options, *std::move(plan), output).run();
  if (!options.dry_run) remove_unused(folder, parent);
  return code;
}

}  // namespace flatbed::tool
