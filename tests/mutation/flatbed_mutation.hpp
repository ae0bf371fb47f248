// What an instrumented source calls (mutate.py): whether mutant k is alive. Read once from the
// environment, FLATBED_MUTANT; thread-safe. With FLATBED_MUTANTS_REACHED the numbers of all mutants
// whose place was come to are written to that file when the process ends.
#pragma once

#include <atomic>
#include <concepts>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace flatbed_mutation {

inline constexpr int kMost = 10'000;

class State {
 public:
  State() {
    if (const char* number = std::getenv("FLATBED_MUTANT")) alive_ = std::atoi(number);
    if (const char* path = std::getenv("FLATBED_MUTANTS_REACHED")) path_ = path;
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (path_.empty()) return;
    std::FILE* file = std::fopen(path_.c_str(), "w");
    for (int i = 0; file != nullptr && i < kMost; ++i)
      if (reached_[i]) std::fprintf(file, "%d\n", i);
    if (file != nullptr) std::fclose(file);
  }
  bool is(int number) {
    if (!path_.empty()) reached_[number].store(true, std::memory_order_relaxed);
    return number == alive_;
  }

 private:
  int alive_ = -1;
  std::string path_;
  std::atomic<bool> reached_[kMost] = {};
};

inline bool is(int number) {
  static State state;
  return state.is(number);
}

// A call that was made, and whose error goes unnoticed: Result<void> and cudaError_t are then what
// their default says.
template <typename T>
T ignored(int number, T result) {
  return is(number) ? T{} : result;
}

// A condition that was asked, and whose answer is set.
template <typename T>
bool forced(int number, bool answer, const T& condition) {
  const bool found = static_cast<bool>(condition);
  return is(number) ? answer : found;
}
template <typename T>
  requires requires(T result) {
    { result.value() } -> std::same_as<bool&>;
  }
T forced(int number, bool answer, T result) {
  return is(number) ? T(answer) : result;
}

}  // namespace flatbed_mutation
