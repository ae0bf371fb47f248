// ThreadCrew: threads that run one function; joined by the destructor. run_parallel(): such a crew
// for one job, with the calling thread as its first member.
#pragma once

#include <pthread.h>

#include <functional>
#include <vector>

#include "flatbed/result.hpp"

namespace flatbed {

// The limit on threads for one job.
inline constexpr unsigned kMaxThreads = 256;

// Owns its threads. Not thread-safe; all threads call `work` at once. They block all signals, so
// that the program's handlers run on the program's own threads.
class ThreadCrew {
 public:
  ThreadCrew() = default;
  ThreadCrew(const ThreadCrew&) = delete;
  ThreadCrew& operator=(const ThreadCrew&) = delete;
  ~ThreadCrew() { join(); }

  // Starts up to `threads` threads that call work(first), work(first + 1), ... and returns their
  // number. It is lower, even 0, if the system gives no more. Call once.
  unsigned start(unsigned threads, unsigned first, std::function<void(unsigned)> work);
  void join();

 private:
  struct Member {
    const std::function<void(unsigned)>* work = nullptr;
    unsigned number = 0;
    pthread_t thread = {};
  };
  static void* run(void* member) noexcept;

  std::function<void(unsigned)> work_;
  std::vector<Member> members_;
  unsigned started_ = 0;
};

// Calls `work` on a new thread and waits for it, so that per-thread state (a library's last error,
// its current device) does not change for the caller. Errors: resource_exhausted, and those of
// `work`.
[[nodiscard]] Result<void> run_on_own_thread(const std::function<Result<void>()>& work);

// Calls worker(0) .. worker(threads - 1), worker 0 on the calling thread, and returns when all have
// returned. `threads` of 0 counts as 1. Workers divide the work themselves (an atomic counter).
// Returns the error of the lowest-numbered failing worker; a worker that fails must make the others
// stop. If a thread cannot be started, the job runs with the others.
[[nodiscard]] Result<void> run_parallel(unsigned threads,
                                        const std::function<Result<void>(unsigned)>& worker);

}  // namespace flatbed
