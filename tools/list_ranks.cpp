#include "list_ranks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <future>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "convert_text.hpp"
#include "format_text.hpp"
#include "interrupt.hpp"
#include "job_list.hpp"
#include "list_job.hpp"
#include "list_message.hpp"
#include "list_tally.hpp"
#include "progress.hpp"
#include "url_text.hpp"

namespace flatbed::tool {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPoll{100};
constexpr std::chrono::milliseconds kSend{10'000};
constexpr std::chrono::seconds kAliveInterval{5};
constexpr std::chrono::seconds kLost{60};           // without a word of a rank that converts
constexpr std::chrono::minutes kAnswer{10};         // of rank 0, which reads the list first
constexpr std::chrono::milliseconds kGoodbye{200};  // after an interrupt, for the others' results

struct Place {
  std::uint64_t nbytes = 0;  // of the input
  std::uint64_t number = 0;  // of the line; likewise for the offset
  std::int64_t offset = 0;
};

// The size of a file, or of the files in a folder. What cannot be looked at counts as nothing, and
// what is behind a URL as more than any file, since nobody asks for its size.
std::uint64_t input_nbytes(const fs::path& input) {
  if (is_url(input.native())) return UINT64_MAX;
  std::error_code failed;
  const bool is_index = input.native().ends_with(".json");
  const fs::path folder = is_index ? input.parent_path() : input;
  if (!is_index && !fs::is_directory(input, failed)) {
    const std::uintmax_t nbytes = fs::file_size(input, failed);
    return failed ? 0 : nbytes;
  }
  std::uint64_t sum = 0;
  for (fs::directory_iterator at(folder.empty() ? "." : folder, failed), end; !failed && at != end;
       at.increment(failed)) {
    std::error_code ignored;
    if (at->is_regular_file(ignored)) sum += at->file_size(ignored);
  }
  return sum;
}

Result<std::vector<Place>> largest_first(JobList& list, const PartChoice& part) {
  std::vector<Place> places;
  JobParser parser;
  for (;;) {
    FLATBED_ASSIGN(const std::optional<JobLine> line, list.next(part));
    if (!line) break;
    Result<JobText> job = line->too_long ? JobText() : parser.parse(line->text);
    places.push_back({job ? input_nbytes(job->input) : 0, line->number, line->offset});
  }
  std::ranges::stable_sort(places, std::ranges::greater(), &Place::nbytes);
  return places;
}

// Runs the job, waiting for another worker if need be; nullopt only after an interrupt.
std::optional<ListResult> run_job(const ListJobs& jobs, const JobLine& line) {
  for (;;) {
    std::optional<ListResult> result = jobs.run(line, {});
    if (result || interrupted()) return result;
    std::this_thread::sleep_for(kPoll);
  }
}

// Rank 0.
class Dealer {
 public:
  Dealer(const ConvertOptions& options, Collective& ranks, JobList list, JobListCheck check,
         Output& output)
      : ranks_(ranks),
        list_(std::move(list)),
        check_(std::move(check)),
        jobs_(options, check_),
        progress_(options.dry_run ? "planning" : "converting", check_.jobs,
                  !options.quiet && options.form == Form::text),
        tally_(options, check_.jobs, progress_, output),
        others_(ranks.size()) {
    progress_.hide_total();
  }

  [[nodiscard]] Result<void> prepare(const PartChoice& part) {
    FLATBED_TRY(tally_.open_report());
    FLATBED_ASSIGN(places_, largest_first(list_, part));
    return {};
  }

  ExitCode run() {
    std::future<void> own = std::async(std::launch::async, [this] {
      while (const std::optional<JobLine> line = take()) {
        if (const std::optional<ListResult> result = run_job(jobs_, *line)) add(*result);
      }
    });
    for (Other& other : others_) other.heard = Clock::now();
    while (std::ranges::any_of(others(), &Other::is_here)) {
      if (interrupted() && is_over()) break;
      hear();
      finish_sends();
      give_up_silent();
    }
    own.get();
    if (const Result<void> same = list_.check_unchanged(); !same) tally_.fail(same.error());
    return tally_.finish();
  }

 private:
  struct Other {
    bool is_here = true;
    std::optional<JobLine> line;  // that was dealt to it
    bool has_line = false;        // it has taken the line, and converts it
    Clock::time_point heard;      // when it last said something
    // The answer to it. A rank that does not take it keeps nobody else waiting.
    std::optional<PendingMessage> answer;
  };

  std::span<Other> others() { return std::span(others_).subspan(1); }

  // The next job. Lines whose jobs must not run fail here, where the whole list is known.
  std::optional<JobLine> take() {
    const std::lock_guard lock(mutex_);
    while (at_ < places_.size() && !interrupted()) {
      const Place& place = places_[at_++];
      Result<JobLine> line = list_.at(place.number, place.offset);
      if (!line) {
        tally_.fail(line.error());
        at_ = places_.size();
      } else if (check_.find(place.number) != nullptr) {
        if (const std::optional<ListResult> result = jobs_.run(*line, {})) add(*result);
      } else {
        return *std::move(line);
      }
    }
    return std::nullopt;
  }

  void add(const ListResult& result) {
    progress_.finish(0);
    tally_.add(result);
  }

  void hear() {
    const Result<Message> message = next_message(ranks_, kPoll);
    if (!message) {
      if (message.error().code != ErrorCode::collective_timeout) lose_all(message.error());
      return;
    }
    Other& other = others_[message->from];
    other.heard = Clock::now();
    other.has_line = true;  // what it says is about that line
    if (message->tag != kReady || !other.is_here) return;
    if (!message->bytes.empty()) {
      const Result<ListResult> result = read_result(message->bytes);
      if (result) add(*result);
      if (!result) return lose(message->from, result.error());
    }
    other.line = take();
    other.has_line = false;
    if (interrupted()) {  // it knows, and does not wait for an answer
      other.is_here = false;
      return;
    }
    const std::vector<std::byte> text =
        other.line ? job_message(*other.line) : std::vector<std::byte>();
    Result<PendingMessage> answer =
        begin_message(ranks_, {message->from, other.line ? kJob : kEnd}, text);
    if (!answer) return lose(message->from, answer.error());
    other.answer = *std::move(answer);
  }

  void finish_sends() {
    for (std::uint32_t rank = 1; rank < ranks_.size(); ++rank) {
      Other& other = others_[rank];
      if (!other.answer) continue;
      const Result<bool> done = other.answer->done();
      if (done && !*done) continue;
      other.answer.reset();
      other.has_line = other.has_line || done;
      if (!done) lose(rank, done.error());
      if (!other.line) other.is_here = false;  // it knows that there is no more to do
    }
  }

  void give_up_silent() {
    for (std::uint32_t rank = 1; rank < ranks_.size(); ++rank) {
      const Other& other = others_[rank];
      if (!other.is_here || Clock::now() - other.heard < kLost) continue;
      lose(rank, {ErrorCode::collective_timeout,
                  fmt::format("rank {} said nothing for {} s", rank, kLost.count())});
    }
  }

  // Its job has failed, as far as one can tell from here. No other rank gets it: what was sent may
  // still be taken.
  void lose(std::uint32_t rank, const Error& error) {
    Other& other = others_[rank];
    other.is_here = false;
    other.answer.reset();
    name_job(rank, "lost");
    other.line.reset();
    tally_.fail(error);
  }

  void lose_all(const Error& error) {
    for (Other& other : others_) other.is_here = false;
    tally_.fail(error);
  }

  // "lost: rank 3 was converting line 17: a.pth". Not the line itself: a URL in it may have
  // secrets.
  void name_job(std::uint32_t rank, std::string_view what) {
    const Other& other = others_[rank];
    if (!other.line) return;
    const Result<JobText> job = JobParser().parse(other.line->text);
    tally_.warn(fmt::format("{}: rank {} {} line {}: {}", what, rank,
                            other.has_line ? "was converting" : "did not take", other.line->number,
                            job ? shortened(path_text(job->input), 200) : "?"));
  }

  // After an interrupt the others stop too, and what they say is waited for only so long. mpirun
  // interrupts all when it loses one, and kills them soon after: the jobs are named at once.
  bool is_over() {
    if (!interrupted_at_) {
      interrupted_at_ = Clock::now();
      for (std::uint32_t rank = 1; rank < ranks_.size(); ++rank) name_job(rank, "at the interrupt");
    }
    return Clock::now() - *interrupted_at_ > kGoodbye;
  }

  Collective& ranks_;
  JobList list_;  // guarded by mutex_, as is at_
  const JobListCheck check_;
  ListJobs jobs_;
  ProgressLine progress_;
  ListTally tally_;
  std::vector<Place> places_;
  std::mutex mutex_;
  std::size_t at_ = 0;         // in places_
  std::vector<Other> others_;  // by rank; the first is this one, and not used
  std::optional<Clock::time_point> interrupted_at_;
};

// Any other rank.
class Worker {
 public:
  Worker(const ConvertOptions& options, Collective& ranks)
      : ranks_(ranks), jobs_(options, check_) {}

  Result<void> run() {
    FLATBED_TRY(send_message(ranks_, {0, kReady}, {}, kSend));
    for (;;) {
      FLATBED_ASSIGN(const std::optional<JobLine> line, hear());
      if (!line) return {};
      FLATBED_ASSIGN(const std::optional<ListResult> result, convert(*line));
      if (!result) return {};
      FLATBED_TRY(send_message(ranks_, {0, kReady}, result_message(*result), kSend));
    }
  }

 private:
  // nullopt: there is no more to do, or no wish to.
  Result<std::optional<JobLine>> hear() {
    const Clock::time_point begin = Clock::now();
    while (!interrupted()) {
      const Result<Message> message = next_message(ranks_, kPoll);
      if (message && message->tag == kEnd) return std::optional<JobLine>();
      if (message) {
        FLATBED_ASSIGN(JobLine line, read_job(message->bytes));
        return std::optional(std::move(line));
      }
      const bool late = Clock::now() - begin > kAnswer;
      if (late || message.error().code != ErrorCode::collective_timeout) return message.error();
    }
    return std::optional<JobLine>();
  }

  Result<std::optional<ListResult>> convert(const JobLine& line) {
    std::future<std::optional<ListResult>> result =
        std::async(std::launch::async, [&] { return run_job(jobs_, line); });
    Clock::time_point said = Clock::now();
    while (result.wait_for(kPoll) != std::future_status::ready) {
      if (Clock::now() - said < kAliveInterval) continue;
      FLATBED_TRY(send_message(ranks_, {0, kAlive}, {}, kSend));
      said = Clock::now();
    }
    return result.get();
  }

  Collective& ranks_;
  const JobListCheck check_;  // rank 0 knows
  ListJobs jobs_;
};

ExitCode work(const ConvertOptions& options, Collective& ranks) {
  const Result<void> done = Worker(options, ranks).run();
  if (done || interrupted()) return interrupted() ? ExitCode::interrupted : ExitCode::ok;
  print_error(with_context(fmt::format("rank {}", ranks.rank()), done.error()));
  return ExitCode::failure;
}

Result<ExitCode> deal(const ConvertOptions& options, Collective& ranks, Output& output) {
  FLATBED_ASSIGN(JobList list, JobList::open(options.list));
  FLATBED_ASSIGN(JobListCheck check, check_list(list, options));
  Dealer dealer(options, ranks, std::move(list), std::move(check), output);
  FLATBED_TRY(dealer.prepare(options.part));
  return dealer.run();
}

// Sends the others home.
void end_all(Collective& ranks) {
  std::vector<PendingMessage> messages;
  for (std::uint32_t rank = 1; rank < ranks.size(); ++rank) {
    if (Result<PendingMessage> message = begin_message(ranks, {rank, kEnd}, {}))
      messages.push_back(*std::move(message));
  }
  const Clock::time_point end = Clock::now() + kSend;
  while (!messages.empty() && Clock::now() < end) {
    std::erase_if(messages, [](PendingMessage& message) { return message.done().value_or(true); });
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

ExitCode convert_list_together(const ConvertOptions& options, Collective& ranks, Output& output) {
  if (ranks.rank() != 0) return work(options, ranks);
  const Result<ExitCode> code = deal(options, ranks, output);
  if (code) return *code;
  end_all(ranks);
  return refuse_convert(code.error(), ExitCode::failure, options, output);
}

}  // namespace flatbed::tool
