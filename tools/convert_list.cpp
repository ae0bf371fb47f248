#include "convert_list.hpp"

#include <algorithm>
#include <chrono>
#include <deque>
#include <future>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "convert_text.hpp"
#include "interrupt.hpp"
#include "job_list.hpp"
#include "list_job.hpp"
#include "list_ranks.hpp"
#include "list_tally.hpp"
#include "progress.hpp"

namespace flatbed::tool {
namespace {

// Jobs whose outputs another worker is writing are put off; those beyond this many are waited for.
constexpr std::size_t kMaxPutOff = 1000;
constexpr std::chrono::milliseconds kPollInterval{50};

class ListRun {
 public:
  ListRun(const ConvertOptions& options, JobList list, const JobListCheck& check, Output& output)
      : options_(options),
        list_(std::move(list)),
        jobs_(options, check),
        progress_(options.dry_run ? "planning" : "converting", check.jobs,
                  !options.quiet && options.form == Form::text),
        tally_(options, check.jobs, progress_, output) {
    progress_.hide_total();
  }

  [[nodiscard]] Result<void> open_report() { return tally_.open_report(); }

  ExitCode run() {
    std::vector<std::future<void>> running;
    for (unsigned i = 1; i < options_.jobs; ++i) {
      running.push_back(std::async(std::launch::async, [this] { work(); }));
    }
    work();
    for (std::future<void>& worker : running) worker.get();
    return tally_.finish();
  }

 private:
  struct Taken {
    JobLine line;
    std::size_t ordinal = 0;  // of this job among those taken
    bool wait = false;        // for another worker that is writing its output
  };

  // Takes jobs until none are left: first those of the list, then those that were put off.
  void work() {
    while (std::optional<Taken> taken = take()) {
      std::optional<ListResult> result;
      for (;;) {
        result = jobs_.run(taken->line, progress_.callback(taken->ordinal));
        if (result || !taken->wait || interrupted()) break;
        std::this_thread::sleep_for(kPollInterval);
      }
      if (result) {
        progress_.finish(taken->ordinal);
        tally_.add(*result);
      } else if (!interrupted()) {
        const std::lock_guard lock(mutex_);
        put_off_.push_back(*std::move(taken));
      }
    }
  }

  std::optional<Taken> take() {
    const std::lock_guard lock(mutex_);
    if (interrupted()) return std::nullopt;
    if (!at_end_) {
      Result<std::optional<JobLine>> line = list_.next(options_.part);
      if (!line) tally_.fail(line.error());
      if (line && *line) return Taken{*std::move(*line), count_++, put_off_.size() >= kMaxPutOff};
      at_end_ = true;
    }
    if (put_off_.empty()) return std::nullopt;
    Taken taken = std::move(put_off_.front());
    put_off_.pop_front();
    taken.wait = true;
    return taken;
  }

  const ConvertOptions& options_;
  JobList list_;
  ListJobs jobs_;
  ProgressLine progress_;
  ListTally tally_;
  std::mutex mutex_;  // guards list_ and what follows
  std::deque<Taken> put_off_;
  std::size_t count_ = 0;
  bool at_end_ = false;
};

}  // namespace

ExitCode convert_list(const ConvertOptions& options, Output& output) {
  if (options.ranks != nullptr) {
    if (options.jobs == 1) return convert_list_together(options, *options.ranks, output);
    return refuse_convert({ErrorCode::invalid_argument,
                           "--jobs does not apply to ranks, which do one job each: start more"},
                          ExitCode::usage, options, output);
  }
  Result<JobList> list = JobList::open(options.list);
  if (!list) return refuse_convert(list.error(), ExitCode::failure, options, output);
  const Result<JobListCheck> check = check_list(*list, options);
  if (!check) return refuse_convert(check.error(), ExitCode::failure, options, output);
  ListRun run(options, *std::move(list), *check, output);
  if (const Result<void> opened = run.open_report(); !opened)
    return refuse_convert(opened.error(), ExitCode::failure, options, output);
  return run.run();
}

}  // namespace flatbed::tool
