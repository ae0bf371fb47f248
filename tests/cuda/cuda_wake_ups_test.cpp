// WakeUps: what is launched for tickets, what is used again, and when nothing is under way.
#include "cuda/wake_ups.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <set>
#include <string_view>
#include <thread>

#include "support/fake_cuda.hpp"

namespace flatbed {
namespace {

using namespace std::chrono_literals;
using cuda::WakeUps;

// Under a table that remembers what was handed to CUDA, and runs nothing by itself.
class CudaWakeUps : public testing::Test {
 protected:
  CudaWakeUps() {
    given_.clear();
    before_launch_ = nullptr;
    api_.LaunchHostFunc = [](cudaStream_t stream, cudaHostFn_t function, void* wake) {
      given_.insert(wake);
      if (before_launch_ != nullptr) before_launch_();
      return FakeCuda::api().LaunchHostFunc(stream, function, wake);
    };
    wakes_.open();
  }
  // Waits a moment for an event that nobody has recorded, which is complete at once.
  void wait(Ticket ticket) { wakes_.wait(ticket, fake_.engine_event(0), 1ms); }
  [[nodiscard]] bool settles_at_once() { return wakes_.settle(0ns); }

  static inline std::set<void*> given_;
  static inline void (*before_launch_)() = nullptr;
  FakeCuda fake_{{.schedule = FakeSchedule::step}};
  cuda::CudaApi api_ = FakeCuda::api();
  WakeUps wakes_{api_};
};

TEST_F(CudaWakeUps, AreUnderWayUntilCudaHasCalled) {
  EXPECT_TRUE(settles_at_once());
  wait(1);
  EXPECT_FALSE(settles_at_once());
  EXPECT_FALSE(wakes_.settle(5ms));
  wakes_.end(1);
  EXPECT_FALSE(settles_at_once());
  fake_.run_all();
  EXPECT_TRUE(settles_at_once());
}

TEST_F(CudaWakeUps, OfTwoTicketsAreTwo) {
  wait(1);
  wait(2);
  EXPECT_EQ(given_.size(), 2u);
  fake_.run_all();
  EXPECT_TRUE(settles_at_once());
}

TEST_F(CudaWakeUps, AreUsedAgainOnceTheirTicketHasEnded) {
  for (const Ticket ticket : {1U, 2U, 3U}) {
    wait(ticket);
    fake_.run_all();
    wakes_.wait(ticket, nullptr, 1h);  // it was called
    wakes_.end(ticket);
  }
  EXPECT_EQ(given_.size(), 1u);
  wait(4);
  wakes_.end(4);  // and will be called all the same
  wait(5);
  EXPECT_EQ(given_.size(), 2u);
  fake_.run_all();
}

// Nobody waits, nothing is under way, and the next ticket can have what this one had.
TEST_F(CudaWakeUps, ThatCannotBeLaunchedAreNone) {
  wait(1);
  fake_.run_all();
  wakes_.end(1);
  for (const std::string_view call : {"StreamWaitEvent", "LaunchHostFunc"}) {
    const std::uint64_t launched = fake_.calls("LaunchHostFunc");
    fake_.fail({.call = call});
    wakes_.wait(2, fake_.engine_event(0), 1h);
    EXPECT_EQ(fake_.calls("LaunchHostFunc") != launched, call == "LaunchHostFunc");
    EXPECT_EQ(fake_.last_error_of_this_thread(), cudaSuccess);
    wakes_.wait(2, fake_.engine_event(0), 1h);  // it is not tried again
    EXPECT_TRUE(settles_at_once());
    wakes_.end(2);
  }
  wait(3);
  EXPECT_EQ(given_.size(), 1u);
  fake_.run_all();
}

// A thread that already waits for the same ticket must not wait for a function that never comes.
TEST_F(CudaWakeUps, ThatCannotBeLaunchedKeepNoOtherThread) {
  static std::atomic<bool> launching;
  static std::atomic<bool> other_waits;
  launching = other_waits = false;
  before_launch_ = [] {
    launching = true;
    while (!other_waits) std::this_thread::yield();
    std::this_thread::sleep_for(20ms);  // until it does; if it does not yet, it need not
  };
  std::thread other([&] {
    while (!launching) std::this_thread::yield();
    other_waits = true;
    wakes_.wait(1, nullptr, 1h);
  });
  fake_.fail({.call = "LaunchHostFunc"});
  wakes_.wait(1, fake_.engine_event(0), 1h);
  other.join();
  EXPECT_TRUE(settles_at_once());
}

// CUDA calls no function after an error.
TEST_F(CudaWakeUps, AreNotWaitedForAfterAnErrorOfTheStream) {
  wait(1);
  fake_.fail({.call = "StreamQuery", .code = cudaErrorIllegalAddress});
  EXPECT_FALSE(wakes_.settle(1h));
  EXPECT_EQ(fake_.last_error_of_this_thread(), cudaSuccess);
  fake_.heal();
  fake_.run_all();
}

}  // namespace
}  // namespace flatbed
