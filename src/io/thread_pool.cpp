#include "io/thread_pool.hpp"

#include <signal.h>

#include <algorithm>
#include <utility>

#include "base/str_cat.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kStackBytes = std::size_t{1} << 20;

}  // namespace

// noexcept, because an exception must not leave the crew unjoined.
void* ThreadCrew::run(void* member) noexcept {
  const Member& self = *static_cast<Member*>(member);
  (*self.work)(self.number);
  return nullptr;
}

// std::thread would throw if pthread_create() returned an error.
unsigned ThreadCrew::start(unsigned threads, unsigned first, std::function<void(unsigned)> work) {
  work_ = std::move(work);
  members_.resize(std::min(threads, kMaxThreads));
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return 0;
  pthread_attr_setstacksize(&attributes, kStackBytes);
  sigset_t all_signals;
  sigset_t before;
  sigfillset(&all_signals);
  pthread_sigmask(SIG_SETMASK, &all_signals, &before);
  while (started_ < members_.size()) {
    Member& member = members_[started_];
    member.work = &work_;
    member.number = first + started_;
    if (pthread_create(&member.thread, &attributes, run, &member) != 0) break;
    ++started_;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  return started_;
}

void ThreadCrew::join() {
  for (; started_ > 0; --started_) pthread_join(members_[started_ - 1].thread, nullptr);
}

Result<void> run_on_own_thread(const std::function<Result<void>()>& work) {
  Result<void> result;
  ThreadCrew crew;
  if (crew.start(1, 0, [&](unsigned) { result = work(); }) == 0) {
    return make_error(ErrorCode::resource_exhausted, "cannot start a thread");
  }
  crew.join();
  return result;
}

Result<void> run_parallel(unsigned threads, const std::function<Result<void>(unsigned)>& worker) {
  std::vector<Result<void>> results(std::clamp(threads, 1U, kMaxThreads));
  {
    ThreadCrew others;
    const auto count = static_cast<unsigned>(results.size());
    others.start(count - 1, 1, [&](unsigned number) { results[number] = worker(number); });
    results[0] = worker(0);
  }
  for (Result<void>& result : results) FLATBED_TRY(std::move(result));
  return {};
}

}  // namespace flatbed
