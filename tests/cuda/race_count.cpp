// Counts the thread sanitizer's reports, and fails the tests that did not expect one.
#include "cuda/race_count.hpp"

#include <gtest/gtest.h>

#include <atomic>

#include "support/sanitizers.hpp"

namespace flatbed {
namespace {

std::atomic<int> g_races = 0;
std::atomic<int> g_expected = 0;

class FailOnRace : public ::testing::EmptyTestEventListener {
  void OnTestStart(const ::testing::TestInfo&) override { before_ = g_races - g_expected; }
  void OnTestEnd(const ::testing::TestInfo&) override {
    EXPECT_EQ(g_races - g_expected, before_) << "the thread sanitizer reported a race";
  }
  int before_ = 0;
};

const bool kListens = [] {
  ::testing::UnitTest::GetInstance()->listeners().Append(new FailOnRace);
  return true;
}();

}  // namespace

int race_count() { return g_races; }

ExpectRaces::ExpectRaces() : before_(race_count()) {}
ExpectRaces::~ExpectRaces() { g_expected += count(); }

#if FLATBED_THREAD_SANITIZER
extern "C" {
// Equal reports count too. Their meaning is decided here and not by the exit status.
const char* __tsan_default_options();
const char* __tsan_default_options() {
  return "exitcode=0:handle_segv=0:history_size=4:"
         "suppress_equal_stacks=0:suppress_equal_addresses=0";
}
void __tsan_on_report(void*);
void __tsan_on_report(void*) { ++g_races; }
}
#endif

}  // namespace flatbed
