#include "io/thread_pool.hpp"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <vector>

namespace flatbed {

namespace {

constexpr std::size_t kStackBytes = std::size_t{1} << 20;

struct Job {
  const std::function<Result<void>(unsigned)>* worker = nullptr;
  unsigned number = 0;
  pthread_t thread = {};
  Result<void> result;
};

// noexcept: an exception must not leave the crew unjoined.
void* run_job(void* argument) noexcept {
  Job& job = *static_cast<Job*>(argument);
  job.result = (*job.worker)(job.number);
  return nullptr;
}

// Starts jobs 1, 2, ... and returns how many of all jobs have a thread, the caller's included.
// std::thread would throw where pthread_create() returns an error.
std::size_t start(std::vector<Job>& jobs) {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return 1;
  pthread_attr_setstacksize(&attributes, kStackBytes);
  sigset_t all_signals;
  sigset_t before;
  sigfillset(&all_signals);
  pthread_sigmask(SIG_SETMASK, &all_signals, &before);
  std::size_t started = 1;
  while (started < jobs.size() &&
         pthread_create(&jobs[started].thread, &attributes, run_job, &jobs[started]) == 0) {
    ++started;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  return started;
}

}  // namespace

Result<void> run_parallel(unsigned threads, const std::function<Result<void>(unsigned)>& worker) {
  std::vector<Job> jobs(std::clamp(threads, 1U, kMaxThreads));
  for (unsigned i = 0; i < jobs.size(); ++i) {
    jobs[i].worker = &worker;
    jobs[i].number = i;
  }
  const std::size_t started = start(jobs);
  run_job(&jobs[0]);
  for (std::size_t i = 1; i < started; ++i) pthread_join(jobs[i].thread, nullptr);
  for (std::size_t i = 0; i < started; ++i) FLATBED_TRY(std::move(jobs[i].result));
  return {};
}

}  // namespace flatbed
