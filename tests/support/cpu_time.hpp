// cpu_time(): what this thread has used of a processor, for tests that bound how work grows with
// its input. Unlike a clock on the wall it stands still while other programs run.
#pragma once

#include <time.h>

#include <chrono>

namespace flatbed::test {

[[nodiscard]] inline std::chrono::nanoseconds cpu_time() {
  timespec used{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

}  // namespace flatbed::test
