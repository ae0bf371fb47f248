// Remote: where the engine's thread finds no memory, calls end with an error. The process goes on.
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <cstdlib>
#include <limits>
#include <new>
#include <string>

#include "flatbed/remote.hpp"
#include "remote/remote_files.hpp"
#include "remote/test_server.hpp"

namespace {

constexpr int kNever = std::numeric_limits<int>::max();

// Allocations of the engine's thread until one fails, once.
std::atomic<int> allocations_left = kNever;

// It is the only thread that blocks all signals.
bool is_engines_thread() {
  sigset_t blocked;
  return pthread_sigmask(SIG_BLOCK, nullptr, &blocked) == 0 && sigismember(&blocked, SIGUSR2) == 1;
}

void* allocate(std::size_t nbytes) noexcept {
  const bool counts = allocations_left != kNever && is_engines_thread();
  return counts && allocations_left-- == 0 ? nullptr : std::malloc(nbytes);
}

}  // namespace

void* operator new(std::size_t nbytes) {
  void* const memory = allocate(nbytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
// The address sanitizer has one of its own, whose memory is not for free().
void* operator new(std::size_t nbytes, const std::nothrow_t&) noexcept { return allocate(nbytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace flatbed {
namespace {

using test::patient;
using test::pattern;
using test::read_range;
using test::ServerAnswer;
using test::ServerRequest;
using test::TestServer;

Result<std::string> read_whole(TestServer& server) {
  FLATBED_ASSIGN(const Remote remote, Remote::make(patient()));
  FLATBED_ASSIGN(const auto source, remote.open_source(server.url("/f")));
  return read_range(*source, 500'000, 1'500'000);
}

// Fails each allocation in turn, until none is left to fail. Returns how many did.
int fail_each(TestServer& server, const std::string& expected) {
  for (int number = 0; number < 5000; ++number) {
    allocations_left = number;
    const Result<std::string> read = read_whole(server);
    const bool failed = allocations_left < 0;
    allocations_left = kNever;
    if (read) {
      EXPECT_TRUE(*read == expected) << number;
    } else {
      EXPECT_EQ(name(read.error().code), "resource_exhausted") << number << read.error().message;
    }
    if (!failed) return number;
  }
  ADD_FAILURE() << "it never ends";
  return 0;
}

TEST(RemoteMemory, ThatTheEngineLacksEndsTheCall) {
  if (!FLATBED_WITH_EXCEPTIONS) GTEST_SKIP() << "without exceptions, the process ends";
  TestServer server;
  server.serve("/f", pattern(3'000'000));
  EXPECT_GT(fail_each(server, pattern(3'000'000).substr(500'000, 1'500'000)), 10);
}

TEST(RemoteMemory, ThatTheEngineLacksForAnErrorEndsTheCall) {
  if (!FLATBED_WITH_EXCEPTIONS) GTEST_SKIP() << "without exceptions, the process ends";
  TestServer server;
  server.serve("/f", pattern(3'000'000));
  server.change = [](const ServerRequest& request, ServerAnswer& answer) {
    if (request.number % 3 == 1) answer.cut_after = 100'000;
  };
  EXPECT_GT(fail_each(server, pattern(3'000'000).substr(500'000, 1'500'000)), 10);
}

}  // namespace
}  // namespace flatbed
