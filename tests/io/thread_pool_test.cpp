// run_parallel(): how many workers run, where, and which error wins.
#include "io/thread_pool.hpp"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <vector>

#include "base/str_cat.hpp"
#include "support/expect_error.hpp"
#include "support/sanitizers.hpp"

namespace flatbed {
namespace {

TEST(RunParallel, CallsEachWorkerOnce) {
  std::vector<std::atomic<int>> calls(7);
  EXPECT_OK(run_parallel(7, [&](unsigned number) -> Result<void> {
    ++calls[number];
    return {};
  }));
  for (const auto& count : calls) EXPECT_EQ(count, 1);
}

TEST(RunParallel, RunsWorkerZeroOnTheCallersThread) {
  const pthread_t caller = pthread_self();
  std::vector<int> same(3, -1);
  EXPECT_OK(run_parallel(3, [&](unsigned number) -> Result<void> {
    same[number] = pthread_equal(pthread_self(), caller) != 0 ? 1 : 0;
    return {};
  }));
  EXPECT_EQ(same, (std::vector{1, 0, 0}));
}

TEST(RunParallel, TakesZeroThreadsForOneAndStopsAtItsMaximum) {
  std::atomic<unsigned> calls = 0;
  const auto count = [&](unsigned) -> Result<void> {
    ++calls;
    return {};
  };
  EXPECT_OK(run_parallel(0, count));
  EXPECT_EQ(calls, 1u);
  calls = 0;
  EXPECT_OK(run_parallel(1'000'000, count));
  EXPECT_LE(calls, kMaxThreads);
}

TEST(RunParallel, ReturnsTheErrorOfTheLowestWorker) {
  const auto fail_from_one = [](unsigned number) -> Result<void> {
    if (number == 0) return {};
    return make_error(ErrorCode::io_error, "worker ", number);
  };
  const Result<void> result = run_parallel(4, fail_from_one);
  EXPECT_ERROR(result, io_error);
  EXPECT_EQ(result.error().message, "worker 1");
}

TEST(RunParallel, KeepsSignalsOnTheProgramsOwnThreads) {
  std::atomic<int> blocked = -1;
  EXPECT_OK(run_parallel(2, [&](unsigned number) -> Result<void> {
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    if (number == 1) blocked = sigismember(&mask, SIGINT);
    return {};
  }));
  EXPECT_EQ(blocked, 1);
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  EXPECT_EQ(sigismember(&mask, SIGINT), 0);
}

// In a child without address space for further stacks. The first workers may get a stack that the
// C library kept; all of them wait for worker 0, which starts last, so that none serves two.
TEST(RunParallel, GoesOnWithoutTheThreadsThatCannotBeHad) {
  if (FLATBED_SANITIZED) GTEST_SKIP() << "the sanitizer ends the process when a mapping fails";
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const rlimit none = {1, 1};
    ::setrlimit(RLIMIT_AS, &none);
    std::atomic<unsigned> calls = 0;
    std::atomic<bool> all_started = false;
    const Result<void> result = run_parallel(kMaxThreads, [&](unsigned number) -> Result<void> {
      ++calls;
      if (number == 0) all_started = true;
      while (!all_started) ::sched_yield();
      return {};
    });
    ::_exit(result && calls >= 1 && calls < kMaxThreads ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace flatbed
