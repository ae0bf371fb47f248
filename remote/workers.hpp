// Workers: threads that do tasks in the order in which they are added, several at once. Owns the
// threads, which start with the first task. The destructor drops tasks that have not begun, and
// joins. After the first error no task begins. Thread-safe.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "flatbed/result.hpp"

namespace flatbed::remote {

class Workers {
 public:
  using Task = std::function<Result<void>()>;

  explicit Workers(unsigned threads) : most_(threads) {}
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  ~Workers();

  // Blocks while as many tasks are under way as there are threads. Errors: that of an earlier task,
  // resource_exhausted (no thread).
  [[nodiscard]] Result<void> add(Task task);

  // Waits until all have ended. Errors: the first one of a task.
  [[nodiscard]] Result<void> finish();

  // Drops what has not begun, waits for what has.
  void stop() noexcept;

 private:
  static void* run(void* self) noexcept;
  void work();

  const unsigned most_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> waiting_;
  unsigned busy_ = 0;  // tasks that have begun
  bool closing_ = false;
  std::optional<Error> error_;
  std::vector<pthread_t> threads_;
};

}  // namespace flatbed::remote
