// What an instrumented source calls (mutate.py): whether mutant k is alive. Read once from the
// environment, FLATBED_MUTANT; thread-safe. With FLATBED_MUTANTS_REACHED the numbers of all mutants
// whose place was come to are written to that file when the process ends, with those that a fork of
// it came to.
//
// A program that wakes mutants itself (tests/corpus/run_disabled.cpp) asks which of them a run
// would have been another one with: those that were asked for, and whose answer would have changed.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <concepts>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

namespace flatbed_mutation {

inline constexpr int kMost = 10'000;

class State {
 public:
  State() {
    if (const char* number = std::getenv("FLATBED_MUTANT")) alive_ = std::atoi(number);
    if (const char* path = std::getenv("FLATBED_MUTANTS_REACHED")) path_ = path;
    if (path_.empty()) return;
    void* const shared = ::mmap(nullptr, kMost * sizeof *reached_, PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) std::abort();
    reached_ = static_cast<std::atomic<bool>*>(shared);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (path_.empty()) return;
    std::FILE* file = std::fopen(path_.c_str(), "a");  // a script runs several programs
    for (int i = 0; file != nullptr && i < kMost; ++i)
      if (reached_[i]) std::fprintf(file, "%d\n", i);
    if (file != nullptr) std::fclose(file);
  }
  bool is(int number) {
    if (!path_.empty()) reached_[number].store(true, std::memory_order_relaxed);
    return number == alive_;
  }
  void wake(int number) { alive_ = number; }
  void matters(int number) { mattered_[number].store(true, std::memory_order_relaxed); }
  // Whether matters() was called since the last time this was asked.
  bool take_mattered(int number) { return mattered_[number].exchange(false); }

 private:
  int alive_ = -1;
  std::string path_;
  std::atomic<bool>* reached_ = nullptr;  // shared with forked processes
  std::atomic<bool> mattered_[kMost] = {};
};

inline State& state() {
  static State one;
  return one;
}

inline bool is(int number) { return state().is(number); }

// A call that was made, and whose error goes unnoticed.
template <typename Status>
Status ignored(int number, Status status) {
  return is(number) ? Status{} : status;
}
template <template <typename> typename Result, typename T>
Result<void> ignored(int number, Result<T> result) {
  if (is(number) || result) return {};
  return std::move(result).error();
}

// A condition that was asked, and whose answer is set: something that can be a bool, or a result
// that holds one.
template <typename T>
auto forced(int number, bool answer, const T& condition) {
  if constexpr (requires {
                  { condition.value() } -> std::same_as<const bool&>;
                }) {
    return is(number) ? T(answer) : condition;
  } else {
    const bool found = static_cast<bool>(condition);
    if (found != answer) state().matters(number);
    return is(number) ? answer : found;
  }
}

}  // namespace flatbed_mutation
