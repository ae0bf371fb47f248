#include "own_thread.hpp"

#include <pthread.h>
#include <signal.h>

namespace flatbed::cuda {
namespace {

struct Job {
  void (*work)(void*);
  void* argument;
};

// noexcept, because an exception must not leave the thread.
void* run_job(void* argument) noexcept {
  const Job& job = *static_cast<const Job*>(argument);
  job.work(job.argument);
  return nullptr;
}

}  // namespace

// std::thread would throw if pthread_create() returned an error.
bool run_on_own_thread(void (*work)(void*), void* argument) noexcept {
  Job job{work, argument};
  sigset_t all_signals;
  sigset_t before;
  sigfillset(&all_signals);
  pthread_sigmask(SIG_SETMASK, &all_signals, &before);
  pthread_t thread = {};
  const bool started = pthread_create(&thread, nullptr, run_job, &job) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (started) pthread_join(thread, nullptr);
  return started;
}

}  // namespace flatbed::cuda
