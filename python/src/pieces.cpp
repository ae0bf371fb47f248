#include "pieces.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <list>
#include <new>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace flatbed::python {

namespace {

constexpr unsigned kMaxThreads = 8;
constexpr std::uint64_t kBytesPerThread = 4 << 20;  // less is not worth a thread
constexpr std::uint64_t kProgressEvery = 64 << 20;  // bytes

struct AlignedDelete {
  void operator()(std::byte* memory) const noexcept {
    ::operator delete(memory, std::align_val_t(4096));
  }
};

struct Scratch {
  std::unique_ptr<std::byte, AlignedDelete> memory;
  std::size_t nbytes = 0;
};

bool grow(Scratch& scratch, std::size_t nbytes) {
  if (scratch.memory && scratch.nbytes >= nbytes) return true;
  scratch.memory.reset(static_cast<std::byte*>(
      ::operator new(std::max<std::size_t>(nbytes, 1), std::align_val_t(4096), std::nothrow)));
  scratch.nbytes = scratch.memory ? nbytes : 0;
  return scratch.memory != nullptr;
}

// Without a limit of time this needs the libstdc++ of GCC 12, which manylinux_2_34 does not have.
template <typename Ready>
void wait(std::condition_variable& changed, std::unique_lock<std::mutex>& lock, Ready ready) {
  while (!changed.wait_for(lock, std::chrono::hours(1), ready)) continue;
}

// How many threads the work is worth, with the calling one.
std::size_t count_threads(const PieceOptions& options) {
  const std::uint64_t worth = std::max<std::uint64_t>(options.nbytes / kBytesPerThread, 1);
  const unsigned most = std::clamp(std::thread::hardware_concurrency(), 1U, kMaxThreads);
  return static_cast<std::size_t>(
      std::min<std::uint64_t>({worth, most, std::max<std::size_t>(options.count, 1)}));
}

// One call of for_each_piece().
class Job {
 public:
  Job(const PieceOptions& options, const PieceWork& work) : options_(options), work_(work) {}

  // Until no piece is left. `reports`: the calling thread.
  Result<void> take_pieces(Scratch& scratch, bool reports) {
    Result<void> done = take(scratch, reports);
    if (!done) failed_ = true;
    return done;
  }

  // Guarded by the mutex of the threads.
  std::size_t helpers_wanted = 0;
  std::size_t helpers = 0;  // at work
  std::optional<Error> error;

 private:
  Result<void> take(Scratch& scratch, bool reports) {
    if (!grow(scratch, options_.scratch_nbytes))
      return Error{ErrorCode::resource_exhausted, "out of memory"};
    std::uint64_t reported = 0;
    const std::uint64_t per_piece = options_.nbytes / std::max<std::size_t>(options_.count, 1);
    while (!failed_) {
      const std::size_t piece = next_++;
      if (piece >= options_.count) break;
      Result<void> done = work_(piece, {scratch.memory.get(), options_.scratch_nbytes});
      if (!done) return done;
      const std::uint64_t nbytes = (piece + 1) * per_piece;
      if (!reports || !options_.progress || nbytes < reported + kProgressEvery) continue;
      reported = nbytes;
      done = options_.progress({nbytes, options_.nbytes});
      if (!done) return done;
    }
    return {};
  }

  const PieceOptions& options_;
  const PieceWork& work_;
  std::atomic<std::size_t> next_ = 0;
  std::atomic<bool> failed_ = false;
};

}  // namespace

class Crew::Threads {
 public:
  Threads() : process_(::getpid()) {}
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  [[nodiscard]] bool are_of_this_process() const { return process_ == ::getpid(); }

  Result<void> run(Job& job, std::size_t helpers_wanted) {
    Result<void> done = take_part(job, helpers_wanted);
    if (done && job.error) return *std::move(job.error);
    return done;
  }

 private:
  Result<void> take_part(Job& job, std::size_t helpers_wanted) {
    struct Part {
      ~Part() { threads.end(job, std::move(scratch)); }
      Threads& threads;
      Job& job;
      Scratch scratch;
    };
    Part part{*this, job, begin(job, helpers_wanted)};
    return job.take_pieces(part.scratch, true);
  }

  // Gives the job to the threads, and the calling one its memory.
  Scratch begin(Job& job, std::size_t helpers_wanted) {
    const std::lock_guard lock(mutex_);
    Scratch scratch;
    if (!spare_.empty()) {
      scratch = std::move(spare_.back());
      spare_.pop_back();
    }
    if (helpers_wanted == 0) return scratch;
    start(helpers_wanted);
    job.helpers_wanted = helpers_wanted;
    jobs_.push_back(&job);
    wake_.notify_all();
    return scratch;
  }

  // Waits for the threads that are at the job.
  void end(Job& job, Scratch scratch) {
    std::unique_lock lock(mutex_);
    jobs_.remove(&job);
    wait(done_, lock, [&] { return job.helpers == 0; });
    if (spare_.size() < kMaxThreads) spare_.push_back(std::move(scratch));
  }

  void start(std::size_t wanted) {
    try {
      while (threads_.size() < wanted) threads_.emplace_back([this] { help(); });
    } catch (const std::system_error&) {
      return;  // no more threads: those that there are do the work
    }
  }

  void help() {
    Scratch scratch;
    std::unique_lock lock(mutex_);
    for (;;) {
      Job* job = nullptr;
      wait(wake_, lock, [&] { return stopped_ || (job = next_job()) != nullptr; });
      if (stopped_) return;
      --job->helpers_wanted;
      ++job->helpers;
      lock.unlock();
      Result<void> done = job->take_pieces(scratch, false);
      lock.lock();
      if (!done && !job->error) job->error = std::move(done).error();
      if (--job->helpers == 0) done_.notify_all();
    }
  }

  [[nodiscard]] Job* next_job() const {
    const auto found =
        std::ranges::find_if(jobs_, [](const Job* job) { return job->helpers_wanted != 0; });
    return found == jobs_.end() ? nullptr : *found;
  }

  const ::pid_t process_;
  std::mutex mutex_;
  std::condition_variable wake_;  // the threads: there is work, or none will come
  std::condition_variable done_;  // callers: a thread has left a job
  bool stopped_ = false;
  std::list<Job*> jobs_;
  std::vector<Scratch> spare_;
  std::vector<std::thread> threads_;
};

Crew::Crew() = default;

Crew::~Crew() {
  // A child of fork() has no such threads to join, and their locks are as they were left.
  if (threads_ && !threads_->are_of_this_process()) static_cast<void>(threads_.release());
}

Crew::Threads& Crew::threads() {
  const std::lock_guard lock(mutex_);
  if (threads_ && !threads_->are_of_this_process()) static_cast<void>(threads_.release());
  if (!threads_) threads_ = std::make_unique<Threads>();
  return *threads_;
}

Result<void> Crew::for_each_piece(const PieceOptions& options, const PieceWork& work) {
  Job job(options, work);
  return threads().run(job, count_threads(options) - 1);
}

}  // namespace flatbed::python
