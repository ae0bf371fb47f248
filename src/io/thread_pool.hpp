// run_parallel(): a bounded crew of threads for one job; joined before it returns.
#pragma once

#include <functional>

#include "flatbed/result.hpp"

namespace flatbed {

// More than this many threads are never started for one job.
inline constexpr unsigned kMaxThreads = 256;

// Calls worker(0) .. worker(threads - 1), worker 0 on the calling thread, and returns when all have
// returned. `threads` of 0 counts as 1. Workers share out the work themselves (an atomic counter).
// The error of the lowest-numbered failing worker is returned; a worker that fails must make the
// others stop. If a thread cannot be started, the job runs with those that could. The new threads
// block all signals: the program's handlers run on the program's own threads.
[[nodiscard]] Result<void> run_parallel(unsigned threads,
                                        const std::function<Result<void>(unsigned)>& worker);

}  // namespace flatbed
