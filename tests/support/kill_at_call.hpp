// run_until_call(): runs something in a child process that dies, as by kill -9, just before its
// n-th system call that others can see the effect of: calls on files, names and locks. With n from
// 1 on, a test looks at every state that a killed process can leave. Needs neither root nor a
// tracer: the child's own filter (seccomp) sends each such call to a signal handler, which counts
// it and makes it. Linux on x86-64 and aarch64; not under a sanitizer, whose runtime makes calls of
// its own.
#pragma once

#include <cstdint>
#include <functional>

namespace flatbed::test {

// survived: it succeeded although the call failed.
enum class Ending : std::uint8_t { killed, finished, failed, survived, not_possible };

// `body` runs in the child and returns whether it succeeded.
[[nodiscard]] Ending run_until_call(std::uint64_t n, const std::function<bool()>& body);

// The same, but the call is not made and fails with this errno, and the child goes on. Calls that
// close a descriptor are made. `finished`: there was no n-th call.
[[nodiscard]] Ending run_with_failing_call(std::uint64_t n, int error_number,
                                           const std::function<bool()>& body);

}  // namespace flatbed::test
